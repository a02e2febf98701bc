/* Reading tokenizer.model: SentencePiece's ModelProto, a protocol buffer. The file is untrusted: every length is checked
 * against what is left, and every piece before it is used. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/tokenizer_internal.h"

#define MAX_PIECE 512 /* bytes; all its cuts are looked up */

static const char mark[] = "\xe2\x96\x81";
#define MARK (sizeof mark - 1)

typedef enum { NORMAL = 1, UNKNOWN_PIECE, CONTROL, USER_DEFINED, UNUSED, BYTE } piece_type;
typedef enum { UNIGRAM = 1, BPE, WORD, CHAR } model_type;

typedef struct {
    const uint8_t *at, *end, *file; /* file: its first byte */
    const char *where;
} reader;

typedef struct {
    uint64_t number, wire;
    uint64_t value; /* wire 0, 1 and 5 */
    reader part;    /* wire 2 */
} field;

typedef struct {
    const char *text;
    size_t size;
    float score;
    piece_type type;
} piece;

typedef struct {
    piece *item;
    size_t count, capacity;
    uint64_t type;
    bool byte_fallback, suffix;
    bool dummy_prefix, remove_spaces, escape;
    reader charsmap, denormalizer;
} model;

static size_t place(const reader *r)
{
    return (size_t)(r->at - r->file);
}

static bif_status read_varint(reader *r, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (r->at == r->end) {
            return bif_fail(BIF_ERR_DATA, "%s: byte %zu: it ends inside a number", r->where, place(r));
        }
        const uint8_t byte = *r->at++;
        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if ((byte & 0x80) == 0) {
            *out = value;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_DATA, "%s: byte %zu: a number of more than 10 bytes", r->where, place(r));
}

static bif_status read_field(reader *r, field *f)
{
    bif_status st = BIF_OK;
    uint64_t tag = 0, size = 0;
    BIF_TRY(read_varint(r, &tag));
    *f = (field){.number = tag >> 3, .wire = tag & 7};
    const size_t left = (size_t)(r->end - r->at);
    switch (f->wire) {
    case 0:
        BIF_TRY(read_varint(r, &f->value));
        return BIF_OK;
    case 2:
        BIF_TRY(read_varint(r, &size));
        if (size > (size_t)(r->end - r->at)) {
            return bif_fail(BIF_ERR_DATA, "%s: byte %zu: a field of %llu bytes, but only %td are left", r->where, place(r),
                            (unsigned long long)size, r->end - r->at);
        }
        f->part = (reader){.at = r->at, .end = r->at + size, .file = r->file, .where = r->where};
        r->at += size;
        return BIF_OK;
    case 1:
    case 5:
        size = f->wire == 1 ? 8 : 4;
        if (size > left) {
            return bif_fail(BIF_ERR_DATA, "%s: byte %zu: it ends inside a field", r->where, place(r));
        }
        for (size_t i = 0; i < size; i++) {
            f->value |= (uint64_t)*r->at++ << (8 * i);
        }
        return BIF_OK;
    default:
        return bif_fail(BIF_ERR_DATA, "%s: byte %zu: not a SentencePiece model (field of wire type %llu)", r->where, place(r),
                        (unsigned long long)f->wire);
    }
done:
    return st;
}

static bif_status expect_wire(const reader *r, const field *f, uint64_t wire)
{
    return f->wire == wire ? BIF_OK
                           : bif_fail(BIF_ERR_DATA, "%s: byte %zu: not a SentencePiece model (field %llu has wire type %llu)", r->where,
                                      place(r), (unsigned long long)f->number, (unsigned long long)f->wire);
}

static bif_status read_piece(reader r, model *m)
{
    bif_status st = BIF_OK;
    field f;
    if (m->count == m->capacity) {
        m->capacity = m->capacity ? m->capacity * 2 : 4096;
        m->item = bif_realloc(m->item, m->capacity, sizeof *m->item);
    }
    piece *p = &m->item[m->count];
    *p = (piece){.text = "", .type = NORMAL};
    while (r.at < r.end) {
        BIF_TRY(read_field(&r, &f));
        if (f.number == 1) {
            BIF_TRY(expect_wire(&r, &f, 2));
            p->text = (const char *)f.part.at;
            p->size = (size_t)(f.part.end - f.part.at);
        } else if (f.number == 2) {
            const uint32_t bits = (uint32_t)f.value;
            BIF_TRY(expect_wire(&r, &f, 5));
            memcpy(&p->score, &bits, sizeof bits);
        } else if (f.number == 3) {
            BIF_TRY(expect_wire(&r, &f, 0));
            if (f.value < NORMAL || f.value > BYTE) {
                return bif_fail(BIF_ERR_DATA, "%s: byte %zu: piece %zu has the type %llu, which is not supported", r.where, place(&r),
                                m->count, (unsigned long long)f.value);
            }
            p->type = (piece_type)f.value;
        }
    }
    if (p->size == 0 || p->size > MAX_PIECE || memchr(p->text, 0, p->size) != NULL ||
        bif_utf8_check(p->text, p->size) < p->size || isnan(p->score)) {
        return bif_fail(BIF_ERR_DATA, "%s: byte %zu: piece %zu is empty, longer than %d bytes, not UTF-8, or has no score", r.where,
                        place(&r), m->count, MAX_PIECE);
    }
    if (++m->count > (size_t)BIF_TOKENIZER_MAX_VOCAB) {
        return bif_fail(BIF_ERR_DATA, "%s: byte %zu: more than %lld pieces", r.where, place(&r), (long long)BIF_TOKENIZER_MAX_VOCAB);
    }
done:
    return st;
}

static bif_status read_settings(reader r, uint64_t section, model *m)
{
    bif_status st = BIF_OK;
    field f;
    while (r.at < r.end) {
        BIF_TRY(read_field(&r, &f));
        const uint64_t key = section << 8 | f.number;
        if (key == (2 << 8 | 3)) {
            m->type = f.value;
        } else if (key == (2 << 8 | 24)) {
            m->suffix = f.value != 0;
        } else if (key == (2 << 8 | 35)) {
            m->byte_fallback = f.value != 0;
        } else if (key == (3 << 8 | 2) && f.wire == 2) {
            m->charsmap = f.part;
        } else if (key == (3 << 8 | 3)) {
            m->dummy_prefix = f.value != 0;
        } else if (key == (3 << 8 | 4)) {
            m->remove_spaces = f.value != 0;
        } else if (key == (3 << 8 | 5)) {
            m->escape = f.value != 0;
        } else if (key == (5 << 8 | 2) && f.wire == 2) {
            m->denormalizer = f.part;
        }
    }
done:
    return st;
}

static bif_status read_model(reader r, model *m)
{
    bif_status st = BIF_OK;
    field f;
    while (r.at < r.end) {
        BIF_TRY(read_field(&r, &f));
        if (f.number == 1 || f.number == 2 || f.number == 3 || f.number == 5) {
            BIF_TRY(expect_wire(&r, &f, 2));
            BIF_TRY(f.number == 1 ? read_piece(f.part, m) : read_settings(f.part, f.number, m));
        }
    }
    const char *bad = m->type != BPE && m->type != UNIGRAM ? "its model type is not BPE or unigram"
                      : m->suffix                          ? "treat_whitespace_as_suffix is set"
                      : m->denormalizer.at != m->denormalizer.end ? "it has a denormalizer"
                                                                  : NULL;
    if (bad != NULL) {
        return bif_fail(BIF_ERR_DATA, "%s: %s, which is not supported", r.where, bad);
    }
    if (m->count == 0) {
        return bif_fail(BIF_ERR_DATA, "%s: not a SentencePiece model (it has no pieces)", r.where);
    }
done:
    return st;
}

static bif_status read_charsmap(const model *m, const char *where, bif_spm *spm)
{
    const uint8_t *blob = m->charsmap.at;
    const size_t size = (size_t)(m->charsmap.end - blob);
    if (size == 0) {
        return BIF_OK;
    }
    const uint32_t array = size < 4 ? 0 : (uint32_t)blob[0] | (uint32_t)blob[1] << 8 | (uint32_t)blob[2] << 16 | (uint32_t)blob[3] << 24;
    if (array == 0 || array % 4 != 0 || array >= size - 4 || blob[size - 1] != 0) {
        return bif_fail(BIF_ERR_DATA, "%s: byte %zu: the normalizer's precompiled_charsmap is broken", where,
                        (size_t)(blob - m->charsmap.file));
    }
    spm->units = array / 4;
    spm->unit = bif_malloc(array);
    for (size_t i = 0; i < spm->units; i++) {
        const uint8_t *p = blob + 4 + 4 * i;
        spm->unit[i] = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    }
    spm->replacements = size - 4 - array;
    spm->replacement = bif_malloc(spm->replacements);
    memcpy(spm->replacement, blob + 4 + array, spm->replacements);
    return BIF_OK;
}

/* What the piece stands for in a text. */
static void set_piece(bif_tokenizer *t, int32_t id, const piece *p)
{
    char bytes[MAX_PIECE];
    size_t used = 0;
    for (size_t i = 0; i < p->size; i++) {
        const bool space = p->type != CONTROL && p->type != UNKNOWN_PIECE && p->size - i >= MARK && memcmp(p->text + i, mark, MARK) == 0;
        bytes[used++] = space ? ' ' : p->text[i];
        i += space ? MARK - 1 : 0;
    }
    const int byte = p->type == BYTE ? bif_byte_piece(p->text, p->size) : -1;
    if (byte >= 0) {
        bytes[0] = (char)byte;
        used = 1;
    }
    bif_tokenizer_set(t, id, bytes, used);
    bif_tokenizer_set_text(t, id, p->text, p->size);
    t->token[id].model = true;
    t->token[id].unused = p->type == UNUSED;
    t->spm->any_unused = t->spm->any_unused || p->type == UNUSED;
    if (p->type == CONTROL || p->type == UNKNOWN_PIECE) {
        t->token[id].special = t->token[id].added = true;
        t->added[t->added_count++] = (bif_added){.id = id, .special = true, .content = bif_format("%.*s", (int)p->size, p->text),
                                                 .text = bif_format("%.*s", (int)p->size, p->text), .size = p->size};
    }
}

static bool joins(const piece *p)
{
    return p->type == NORMAL || p->type == USER_DEFINED || p->type == UNUSED;
}

static bif_status set_pieces(bif_tokenizer *t, const char *where, const model *m, bif_intern *texts)
{
    bool byte[256] = {false};
    size_t bytes = 0, unknowns = 0;
    for (size_t i = 0; i < m->count; i++) {
        const piece *p = &m->item[i];
        uint32_t code = 0;
        bool is_new = false;
        bif_intern_find(texts, p->text, p->size, true, &is_new);
        if (!is_new) {
            return bif_fail(BIF_ERR_DATA, "%s: piece %zu ('%.*s') appears twice", where, i, (int)p->size, p->text);
        }
        const bool one = bif_utf8_decode(p->text, p->size, &code) == p->size;
        const int value = p->type == BYTE ? bif_byte_piece(p->text, p->size) : -1;
        if ((p->type == BYTE && (value < 0 || !m->byte_fallback)) || (one && (p->type == CONTROL || p->type == UNKNOWN_PIECE))) {
            return bif_fail(BIF_ERR_DATA, "%s: piece %zu ('%.*s') is not a byte as <0x0A>, or a byte without byte_fallback, or "
                            "a control piece of one character", where, i, (int)p->size, p->text);
        }
        if (value >= 0 && !byte[value]) {
            byte[value] = true;
            bytes++;
        }
        unknowns += p->type == UNKNOWN_PIECE;
        set_piece(t, (int32_t)i, p);
        if (one && joins(p)) {
            bif_char_add(t, code, (int32_t)i);
        }
        if (p->type == UNKNOWN_PIECE && unknowns == 1) {
            t->unk = bif_format("%.*s", (int)p->size, p->text);
        }
        if (unknowns > 1) {
            break;
        }
    }
    if (unknowns != 1 || (m->byte_fallback && bytes != 256)) {
        return bif_fail(BIF_ERR_DATA, "%s: it has %s unknown pieces and %zu of 256 byte pieces", where,
                        unknowns == 0 ? "no" : unknowns == 1 ? "one" : "several", bytes);
    }
    return BIF_OK;
}

static int compare_score(const void *a, const void *b, void *user)
{
    const model *m = user;
    const float x = m->item[*(const uint32_t *)a].score, y = m->item[*(const uint32_t *)b].score;
    return x > y ? -1 : x < y;
}

/* SentencePiece joins two neighbours when what they make is a piece, the highest score first: each way to cut a piece in
 * two is a merge, and equal scores have equal ranks. A character that only stands inside pieces gets an id beyond any
 * vocabulary (added tokens come behind the pieces), so that it can be merged; left alone it is unknown. */
static bif_status make_merges(bif_tokenizer *t, const model *m, const bif_intern *texts)
{
    uint32_t *order = bif_malloc(m->count * sizeof *order);
    size_t capacity = 0;
    int32_t rank = -1, extra = (int32_t)BIF_TOKENIZER_MAX_VOCAB;
    for (size_t i = 0; i < m->count; i++) {
        order[i] = (uint32_t)i;
        for (size_t at = 0, step = 0; joins(&m->item[i]) && at < m->item[i].size; at += step) {
            uint32_t code = 0;
            step = bif_utf8_decode(m->item[i].text + at, m->item[i].size - at, &code);
            if (bif_char_get(t, code) < 0) {
                bif_char_add(t, code, extra++);
            }
        }
    }
    qsort_r(order, m->count, sizeof *order, compare_score, (void *)(uintptr_t)m);
    for (size_t k = 0; k < m->count; k++) {
        const piece *p = &m->item[order[k]];
        uint32_t code = 0;
        rank += k == 0 || m->item[order[k - 1]].score > p->score;
        for (size_t at = 0; joins(p) && (at += bif_utf8_decode(p->text + at, p->size - at, &code)) < p->size;) {
            int32_t half[2];
            for (size_t side = 0; side < 2; side++) {
                const char *text = side == 0 ? p->text : p->text + at;
                const size_t size = side == 0 ? at : p->size - at;
                const bool one = bif_utf8_decode(text, size, &code) == size;
                const int64_t number = one ? bif_char_get(t, code) : bif_intern_get(texts, text, size);
                half[side] = number >= 0 && (one || joins(&m->item[number])) ? (int32_t)number : -1;
            }
            if (half[0] < 0 || half[1] < 0) {
                continue;
            }
            if (t->merges == capacity) {
                capacity = capacity ? capacity * 2 : 1 << 16;
                t->merge = bif_realloc(t->merge, capacity, sizeof *t->merge);
            }
            t->merge[t->merges++] = (bif_merge){.left = half[0], .right = half[1], .id = (int32_t)order[k], .rank = rank};
        }
    }
    free(order);
    return t->merges <= UINT32_MAX / 4 ? BIF_OK : bif_fail(BIF_ERR_DATA, "more than %u merges", UINT32_MAX / 4);
}

/* Their texts in memory of their own: the pool moves when other files bring added tokens. */
static void make_prefixes(bif_tokenizer *t, const model *m, bool all, bif_prefixes *out)
{
    bif_prefix *entry = bif_malloc((m->count + 1) * sizeof *entry);
    size_t count = 0;
    for (size_t i = 0; i < m->count; i++) {
        const piece_type type = m->item[i].type;
        if (type == USER_DEFINED || (all && type == NORMAL)) {
            entry[count++] = (bif_prefix){.text = t->spm->texts + t->token[i].text, .size = t->token[i].text_size, .value = (int32_t)i};
        }
    }
    bif_prefixes_build(out, entry, count);
}

static void make_scores(bif_tokenizer *t, const model *m)
{
    bif_spm *spm = t->spm;
    spm->count = m->count;
    spm->score = bif_malloc(m->count * sizeof *spm->score);
    spm->user_defined = bif_malloc(m->count * sizeof *spm->user_defined);
    spm->min_score = INFINITY;
    for (size_t i = 0; i < m->count; i++) {
        const piece *p = &m->item[i];
        spm->score[i] = p->score;
        spm->user_defined[i] = p->type == USER_DEFINED;
        spm->min_score = p->type == NORMAL && p->score < spm->min_score ? p->score : spm->min_score;
    }
}

bif_status bif_spm_parse(const char *where, const char *data, size_t size, bif_tokenizer **out)
{
    bif_status st = BIF_OK;
    model m = {.type = UNIGRAM, .dummy_prefix = true, .remove_spaces = true, .escape = true};
    bif_intern texts = {0};
    bif_tokenizer *t = NULL;
    const uint8_t *start = (const uint8_t *)data;
    BIF_TRY(read_model((reader){.at = start, .end = start + size, .file = start, .where = where}, &m));
    t = bif_tokenizer_empty((int32_t)m.count);
    t->characters = true;
    t->byte_fallback = m.byte_fallback;
    t->strip_spaces = m.remove_spaces ? SIZE_MAX : m.dummy_prefix;
    t->added = bif_calloc(m.count, sizeof *t->added);
    t->spm = bif_calloc(1, sizeof *t->spm);
    t->spm->unigram = m.type == UNIGRAM;
    t->spm->legacy = true;
    t->spm->dummy_prefix = m.dummy_prefix;
    t->spm->remove_spaces = m.remove_spaces;
    t->spm->escape = m.escape;
    make_scores(t, &m);
    BIF_TRY(read_charsmap(&m, where, t->spm));
    BIF_TRY(set_pieces(t, where, &m, &texts));
    if (!t->spm->unigram) {
        BIF_TRY(make_merges(t, &m, &texts));
    }
    t->spm->texts = bif_malloc(t->pool_size);
    memcpy(t->spm->texts, t->pool, t->pool_size);
    make_prefixes(t, &m, false, &t->spm->user);
    if (t->spm->unigram) {
        make_prefixes(t, &m, true, &t->spm->pieces);
    }
    *out = t;
    t = NULL;
done:
    bif_tokenizer_free(t);
    bif_intern_free(&texts);
    free(m.item);
    return st;
}
