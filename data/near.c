#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/json.h"
#include "base/log.h"
#include "data/hamming.h"
#include "data/lsh.h"
#include "data/near_rows.h"
#include "data/text_measures.h"

enum { PAIR_BYTES = 52 }; /* of a pair: two copies in growing arrays, or one and the sort's, and later both directions of it */

/* Distances by default, from tests/bench/results/2026-11-21-dedup-recall.md: of 1,000 photographs resized and encoded again the 64-bit
 * hashes find 99.0 % and more within 4 (imagededup's 10 makes 20 times the false pairs of ahash and whash), PDQ 99.2 % and more within 36
 * (97.9 within its authors' 31), with no false pair in 13 million. */
const bif_image_method bif_image_methods[] = {
    {"exact", NULL, BIF_COLUMN_U64, 2, 0, 0},
    {"pixels", "pixels", BIF_COLUMN_U64, 2, 0, 0},
    {"ahash", "ahash", BIF_COLUMN_U64, 1, 1, 4},
    {"dhash", "dhash", BIF_COLUMN_U64, 1, 1, 4},
    {"phash", "phash", BIF_COLUMN_U64, 1, 1, 4},
    {"whash", "whash", BIF_COLUMN_U64, 1, 1, 4},
    {"ahash_imagededup", "ahash_imagededup", BIF_COLUMN_U64, 1, 1, 4},
    {"dhash_imagededup", "dhash_imagededup", BIF_COLUMN_U64, 1, 1, 4},
    {"phash_imagededup", "phash_imagededup", BIF_COLUMN_U64, 1, 1, 4},
    {"whash_imagededup", "whash_imagededup", BIF_COLUMN_U64, 1, 1, 4},
    {"pdq", "pdq", BIF_COLUMN_U8, 32, 4, 36},
    {0},
};

/* What is read of the images of both parts. */
typedef struct {
    const bif_near_options *options;
    json_t *columns;
    bif_hash_rows rows;
    bif_hash_rows poor; /* ids of the pictures whose hash says little: they match the same file only */
    const char *column;
    int64_t width;
} reading;

void bif_relation_free(bif_relation *relation)
{
    free(relation->item);
    bif_pairs_free(&relation->pairs);
    *relation = (bif_relation){0};
}

int64_t bif_relation_bytes(const bif_relation *relation)
{
    const int64_t pair = sizeof(bif_pair) + 2 * (int64_t)(sizeof(uint32_t) + sizeof(float));
    return relation->items * 4 + relation->classes * 12 + relation->pairs.count * pair;
}

static bool is_pdq(const bif_image_method *method)
{
    return method->words == 4;
}

/* ---- memory ---- */
/* *most: pairs that there is room for. */
static bif_status plan_memory(const char *what, int64_t items, int64_t need, int64_t memory, int64_t *most)
{
    const int64_t least = need + ((int64_t)PAIR_BYTES << 16), mib = 1 << 20;
    if (least > memory) {
        return bif_fail(BIF_ERR_MEMORY,
                        "%s of %" PRId64 " needs %" PRId64 " MiB a rank, allowed are %" PRId64 ": give a higher --memory-mib", what, items,
                        (least + mib - 1) / mib, memory / mib);
    }
    *most = (memory - need) / PAIR_BYTES;
    return BIF_OK;
}

/* ---- images ---- */
/* PDQ has no bits for plain pictures and very small ones. */
static bool says_nothing(const uint8_t *pdq)
{
    int bits = 0;
    for (int i = 0; i < 32; i++) {
        bits |= pdq[i];
    }
    return bits == 0;
}

static bif_status read_images(reading *r, const bif_pool_part *part, int64_t shard_number, uint32_t first)
{
    const bif_image_method *method = r->options->images;
    const int64_t first_sample = part->pool->first_sample[shard_number];
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *hash = NULL, *quality = NULL, *pixels = NULL;
    bool *used = NULL;
    BIF_TRY(bif_pool_shard(part->pool, shard_number, &shard));
    const int64_t images = bif_shard_images(shard);
    if (images == 0) {
        goto done;
    }
    used = bif_calloc((size_t)images, sizeof *used);
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        bif_shard_sample sample = {0};
        if (!bif_part_keeps(part, first_sample + i)) {
            continue;
        }
        BIF_TRY(bif_shard_get_sample(shard, i, &sample));
        for (int64_t k = 0; k < sample.image_count; k++) {
            used[sample.images[k]] = true;
        }
    }
    if (r->column != NULL) {
        BIF_TRY(bif_near_column(shard, r->column, BIF_COLUMN_OF_IMAGE, method->type, r->width, r->columns, &hash));
    }
    if (is_pdq(method)) {
        BIF_TRY(bif_near_column(shard, "pdq_quality", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U8, 1, r->columns, &quality));
    } else if (method->words > 0) {
        BIF_TRY(bif_near_column(shard, "pixels", BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U64, 2, r->columns, &pixels));
    }
    for (int64_t i = 0; i < images; i++) {
        bif_shard_image image = {0};
        const uint8_t *q = quality ? bif_column_data(quality) : NULL;
        const uint64_t *p = pixels ? bif_column_data(pixels) : NULL;
        if (!used[i] || (q != NULL && q[i] == 255) || (p != NULL && p[2 * i] == 0 && p[2 * i + 1] == 0)) {
            continue;
        }
        BIF_TRY(bif_shard_get_image(shard, i, &image));
        const void *row = hash ? (const char *)bif_column_data(hash) + (size_t)i * r->rows.width : (const void *)image.id;
        if (hash != NULL && method->words == 0 && ((const uint64_t *)row)[0] == 0 && ((const uint64_t *)row)[1] == 0) {
            continue; /* cannot be decoded */
        }
        const bool poor = q != NULL && (q[i] < r->options->quality || says_nothing(row));
        bif_rows_add(poor ? &r->poor : &r->rows, first + (uint32_t)i, poor ? (const void *)image.id : row);
    }
done:
    free(used);
    bif_column_close(hash);
    bif_column_close(quality);
    bif_column_close(pixels);
    bif_shard_close(shard);
    return st;
}

/* Which classes have items of the one pool or of the other. */
static uint8_t *sides_of(const bif_relation *relation, int64_t first_other)
{
    uint8_t *side = bif_calloc((size_t)relation->classes + 1, 1);
    for (int64_t i = 0; i < relation->items; i++) {
        if (relation->item[i] != BIF_NO_CLASS) {
            side[relation->item[i]] |= i < first_other ? 1 : 2;
        }
    }
    return side;
}

/* Hash `form` of the classes of a side (3: all) into out [*count, words], and which class each is. */
static void copy_hashes(const bif_hash_rows *rows, const uint8_t *side, uint8_t wanted, int words, int form, uint64_t *out,
                        uint32_t *class_of, int64_t *count)
{
    *count = 0;
    for (int64_t c = 0; c < rows->count; c++) {
        if (side == NULL || (side[c] & wanted) != 0) {
            memcpy(out + *count * words, rows->row + (size_t)c * rows->width + (size_t)(form * words) * 8, (size_t)words * 8);
            class_of[(*count)++] = (uint32_t)c;
        }
    }
}

static bif_status near_hashes(const bif_hash_rows *rows, const uint8_t *side, const bif_near_options *options, const bif_team *team,
                              int64_t most, bif_pairs *out)
{
    bif_status st = BIF_OK;
    const int words = options->images->words, forms = options->dihedral ? 8 : 1;
    const bool within = side == NULL;
    const size_t room = (size_t)(rows->count + 1);
    uint64_t *a = bif_malloc(room * (size_t)words * 8), *b = bif_malloc(room * (size_t)words * 8);
    uint32_t *a_class = bif_malloc(room * 4), *b_class = bif_malloc(room * 4);
    bif_pairs found = {0};
    int64_t a_count = 0, b_count = 0;
    /* What turns a hash does not turn its median: between two pools the forms of the one are compared, and then those of the other. */
    for (int pass = 0; pass < (within ? forms : 2 * forms - 1); pass++) {
        const int form = pass < forms ? pass : pass - forms + 1;
        copy_hashes(rows, side, 1, words, pass < forms ? form : 0, a, a_class, &a_count);
        copy_hashes(rows, side, 2, words, pass < forms ? 0 : form, b, b_class, &b_count);
        bif_hamming_args args = {.words = words,
                                 .distance = options->distance,
                                 .a = {a, a_count},
                                 .b = {within && pass == 0 ? NULL : b, b_count},
                                 .b_first = within ? 0 : (uint32_t)a_count,
                                 .part = team->rank,
                                 .parts = team->world,
                                 .threads = team->threads,
                                 .most = most - out->count};
        if (forms > 1) {
            bif_info("near pairs: form %d of %d", form + 1, forms);
        }
        found.count = 0;
        BIF_TRY(bif_hamming_pairs(&args, &found));
        for (int64_t i = 0; i < found.count; i++) {
            const bif_pair *p = &found.pair[i];
            bif_pairs_add(out, a_class[p->a], within ? b_class[p->b] : b_class[p->b - a_count], p->value);
        }
    }
done:
    bif_pairs_free(&found);
    free(a);
    free(b);
    free(a_class);
    free(b_class);
    return st;
}

/* The pairs of all ranks on rank 0, sorted; elsewhere none. */
static bif_status gather_pairs(bif_pairs *pairs, bool least, int64_t most, const bif_team *team)
{
    char *all = NULL;
    size_t size = 0;
    double count = (double)pairs->count;
    bif_status st = BIF_OK;
    team->sum(team->context, &count, 1);
    if (count > (double)most) { /* said before rank 0 takes them in */
        st = bif_fail(BIF_ERR_MEMORY, "%.0f near pairs, and room for %" PRId64 ": choose a smaller distance, or a higher --memory-mib",
                      count, most);
    }
    BIF_TRY(team->agree(team->context, st)); /* `most` may differ: ranks may have different numbers of threads */
    team->gather(team->context, pairs->pair, (size_t)pairs->count * sizeof *pairs->pair, &all, &size);
    bif_pairs_free(pairs);
    if (team->rank == 0) {
        *pairs = (bif_pairs){(bif_pair *)(void *)all, (int64_t)(size / sizeof *pairs->pair), (int64_t)(size / sizeof *pairs->pair)};
        bif_pairs_sort(pairs, least);
    }
done:
    return st;
}

bif_status bif_near_images(const bif_pool_part *part, const bif_pool_part *others, const bif_near_options *options, const bif_team *team,
                           json_t *columns, bif_relation *out)
{
    const bif_image_method *method = options->images;
    const int64_t first_other = part->pool->images, items = first_other + (others ? others->pool->images : 0);
    reading r = {.options = options, .columns = columns, .column = method->column, .width = method->width};
    const bool works = method->words > 0 || team->rank == 0; /* sorting is one rank's, near pairs are all ranks' */
    bif_relation relation = {.items = items};
    bif_status st = BIF_OK;
    uint8_t *side = NULL;
    int64_t most = 0;
    if (is_pdq(method) && options->dihedral) {
        r.column = "pdq_dihedral";
        r.width = 8 * 32;
    }
    const size_t width = (size_t)r.width * bif_column_type_size(method->type);
    const int64_t hashes = items * method->words * 16 + items * 8 + bif_hamming_bytes(method->words, items, items);
    st = plan_memory("comparing the pictures", items, items * 5 + bif_rows_bytes(items, width) + (method->words ? hashes : 0),
                     options->memory, &most);
    if (st == BIF_OK && items > (int64_t)UINT32_MAX - 1) {
        st = bif_fail(BIF_ERR_DATA, "%" PRId64 " images are more than can be compared at once (4294967294)", items);
    }
    BIF_TRY(team->agree(team->context, st));
    r.rows = bif_rows_new(items, width);
    r.poor = bif_rows_new(items, 16); /* a picture is in one of the two, and pages that are not written to cost nothing */
    relation.item = bif_malloc((size_t)items * sizeof *relation.item + 4);
    memset(relation.item, 0xff, (size_t)items * sizeof *relation.item); /* BIF_NO_CLASS */
    for (int64_t k = 0; works && k < part->pool->shards && st == BIF_OK; k++) {
        st = read_images(&r, part, k, (uint32_t)part->pool->first_image[k]);
    }
    for (int64_t k = 0; works && others != NULL && k < others->pool->shards && st == BIF_OK; k++) {
        st = read_images(&r, others, k, (uint32_t)(first_other + others->pool->first_image[k]));
    }
    if (works && st == BIF_OK) {
        const int64_t good = bif_rows_classes(&r.rows, 0, relation.item), poor = bif_rows_classes(&r.poor, good, relation.item);
        relation.classes = good + poor;
        bif_info("%" PRId64 " different pictures by %s", good, method->name);
        if (poor > 0) {
            bif_info("%" PRId64 " more are plain or below quality %d and match only the same file", poor, options->quality);
        }
        side = others != NULL ? sides_of(&relation, first_other) : NULL;
    }
    if (st == BIF_OK && method->words > 0) {
        st = near_hashes(&r.rows, side, options, team, most, &relation.pairs);
    }
    BIF_TRY(team->agree(team->context, st));
    BIF_TRY(gather_pairs(&relation.pairs, true, most, team));
done:
    bif_rows_free(&r.rows);
    bif_rows_free(&r.poor);
    free(side);
    if (st != BIF_OK || team->rank != 0) {
        bif_relation_free(&relation);
    }
    *out = relation;
    return st;
}

/* ---- captions ---- */
typedef struct {
    uint64_t caption[2], talk[2];
} caption_key;

static void add_key(XXH3_state_t *state, const char *text, size_t size)
{
    static const char placeholder[] = "<image>";
    char *plain = bif_malloc(size + 1);
    memcpy(plain, text, size);
    plain[size] = '\0';
    for (char *at = plain; (at = memmem(at, size - (size_t)(at - plain), placeholder, sizeof placeholder - 1)) != NULL;) {
        memset(at, ' ', sizeof placeholder - 1);
    }
    uint64_t key[2];
    bif_text_key(plain, size, key);
    XXH3_128bits_update(state, key, sizeof key);
    free(plain);
}

/* Everything that is said in a conversation but the first answer, which is the caption; 0, 0 of captions. */
static void talk_key(const bif_shard_sample *sample, uint64_t key[2])
{
    json_t *value = NULL;
    key[0] = key[1] = 0;
    if (bif_json_parse("sample", sample->text, sample->text_size, &value) != BIF_OK) {
        bif_error_clear();
        return;
    }
    const json_t *turns = json_object_get(value, "caption") ? NULL : json_object_get(value, "conversations");
    if (json_array_size(turns) > 0) {
        XXH3_state_t *state = XXH3_createState();
        BIF_BUG_IF(state == NULL, "no memory for a digest");
        XXH3_128bits_reset(state);
        bool answered = false;
        for (size_t i = 0; i < json_array_size(turns); i++) {
            const json_t *turn = json_array_get(turns, i), *said = json_object_get(turn, "value");
            const char *from = json_string_value(json_object_get(turn, "from"));
            const bool answer = from != NULL && strcmp(from, "gpt") == 0;
            if (answer && !answered) {
                answered = true;
            } else if (json_is_string(said)) {
                XXH3_128bits_update(state, answer ? "a" : "q", 1);
                add_key(state, json_string_value(said), json_string_length(said));
            }
        }
        const XXH128_hash_t digest = XXH3_128bits_digest(state);
        XXH3_freeState(state);
        key[0] = digest.high64;
        key[1] = digest.low64;
    }
    json_decref(value);
}

static bif_status read_captions(bif_hash_rows *rows, const bif_pool_part *part, int64_t shard_number, int64_t first, json_t *columns)
{
    const int64_t first_sample = part->pool->first_sample[shard_number];
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *hash = NULL;
    BIF_TRY(bif_pool_shard(part->pool, shard_number, &shard));
    BIF_TRY(bif_near_column(shard, "caption_hash", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_U64, 2, columns, &hash));
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        const uint64_t *caption = (const uint64_t *)bif_column_data(hash) + 2 * i;
        bif_shard_sample sample = {0};
        caption_key key = {.caption = {caption[0], caption[1]}};
        if ((caption[0] == 0 && caption[1] == 0) || !bif_part_keeps(part, first_sample + i)) {
            continue;
        }
        BIF_TRY(bif_shard_get_sample(shard, i, &sample));
        talk_key(&sample, key.talk);
        bif_rows_add(rows, (uint32_t)(first + first_sample + i), &key);
    }
done:
    bif_column_close(hash);
    bif_shard_close(shard);
    return st;
}

/* Signatures of the classes whose first sample is in this shard; *next is the class to come. */
static bif_status read_signatures(const bif_hash_rows *classes, const bif_pool_part *part, int64_t shard_number, int64_t first,
                                  json_t *columns, int64_t *next, uint32_t *signatures)
{
    const int64_t begin = first + part->pool->first_sample[shard_number], end = first + part->pool->first_sample[shard_number + 1];
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    BIF_TRY(bif_pool_shard(part->pool, shard_number, &shard));
    BIF_TRY(bif_near_column(shard, "minhash", BIF_COLUMN_OF_SAMPLE, BIF_COLUMN_U32, BIF_MINHASH_VALUES, columns, &column));
    for (; *next < classes->count && classes->number[*next] < end; (*next)++) {
        memcpy(signatures + *next * BIF_MINHASH_VALUES,
               (const uint32_t *)bif_column_data(column) + (classes->number[*next] - begin) * BIF_MINHASH_VALUES, BIF_MINHASH_VALUES * 4);
    }
done:
    bif_column_close(column);
    bif_shard_close(shard);
    return st;
}

static bif_status near_signatures(const bif_hash_rows *classes, const uint8_t *side, const uint32_t *signatures,
                                  const bif_near_options *options, const bif_team *team, int threads, int64_t most, bif_pairs *out)
{
    bif_pairs found = {0};
    const caption_key *key = (const void *)classes->row;
    uint64_t *talk = bif_malloc((size_t)classes->count * sizeof *talk + 8); /* a million questions may have the answer "Yes" */
    for (int64_t i = 0; i < classes->count; i++) {
        talk[i] = key[i].talk[0];
    }
    const bif_minhash_args args = {.signature = signatures,
                                   .group = talk,
                                   .count = classes->count,
                                   .jaccard = options->jaccard,
                                   .part = team->rank,
                                   .parts = team->world,
                                   .threads = threads,
                                   .most = most};
    const bif_status st = bif_minhash_pairs(&args, &found);
    for (int64_t i = 0; i < found.count; i++) {
        const uint32_t a = found.pair[i].a, b = found.pair[i].b;
        const bool across = side == NULL || (side[a] | side[b]) == 3;
        if (across && memcmp(key[a].talk, key[b].talk, sizeof key[a].talk) == 0) {
            bif_pairs_add(out, a, b, found.pair[i].value);
        }
    }
    bif_pairs_free(&found);
    free(talk);
    return st;
}

/* As many as half of the memory has room for: each sorts all captions by a band of its own. */
static int minhash_threads(const bif_near_options *options, int64_t items, int64_t need, int wanted)
{
    const int bands = BIF_MINHASH_VALUES / bif_minhash_rows(options->jaccard);
    const int64_t fit = (options->memory / 2 - need) / (bif_minhash_bytes(items, 1) + 1);
    wanted = wanted < bands ? wanted : bands;
    return fit < 1 ? 1 : fit < wanted ? (int)fit : wanted;
}

bif_status bif_near_captions(const bif_pool_part *part, const bif_pool_part *others, const bif_near_options *options, const bif_team *team,
                             json_t *columns, bif_relation *out)
{
    const int64_t first_other = part->pool->samples, items = first_other + (others ? others->pool->samples : 0);
    const bool works = options->minhash || team->rank == 0; /* sorting is one rank's, near pairs are all ranks' */
    bif_relation relation = {.items = items, .similarity = true};
    bif_hash_rows rows = {0};
    bif_status st = BIF_OK;
    uint32_t *signatures = NULL;
    uint8_t *side = NULL;
    int64_t most = 0, next = 0;
    const int64_t each = options->minhash ? BIF_MINHASH_VALUES * 4 + 8 : 0;
    const int64_t need = options->held + items * (5 + each) + bif_rows_bytes(items, sizeof(caption_key));
    const int threads = options->minhash ? minhash_threads(options, items, need, team->threads) : 1;
    st = plan_memory("comparing the captions", items, need + (options->minhash ? bif_minhash_bytes(items, threads) : 0), options->memory,
                     &most);
    if (st == BIF_OK && items > (int64_t)UINT32_MAX - 1) {
        st = bif_fail(BIF_ERR_DATA, "%" PRId64 " samples are more than can be compared at once (4294967294)", items);
    }
    BIF_TRY(team->agree(team->context, st));
    rows = bif_rows_new(items, sizeof(caption_key));
    relation.item = bif_malloc((size_t)items * sizeof *relation.item + 4);
    memset(relation.item, 0xff, (size_t)items * sizeof *relation.item);
    for (int64_t k = 0; works && k < part->pool->shards && st == BIF_OK; k++) {
        st = read_captions(&rows, part, k, 0, columns);
    }
    for (int64_t k = 0; works && others != NULL && k < others->pool->shards && st == BIF_OK; k++) {
        st = read_captions(&rows, others, k, first_other, columns);
    }
    if (works && st == BIF_OK) {
        relation.classes = bif_rows_classes(&rows, 0, relation.item);
        bif_info("%" PRId64 " different captions (of a conversation the first answer), case and punctuation around them aside", relation.classes);
        side = others != NULL ? sides_of(&relation, first_other) : NULL;
    }
    if (options->minhash && st == BIF_OK) {
        signatures = bif_malloc((size_t)rows.count * BIF_MINHASH_VALUES * 4 + 4);
        for (int64_t k = 0; k < part->pool->shards && st == BIF_OK; k++) {
            st = read_signatures(&rows, part, k, 0, columns, &next, signatures);
        }
        for (int64_t k = 0; others != NULL && k < others->pool->shards && st == BIF_OK; k++) {
            st = read_signatures(&rows, others, k, first_other, columns, &next, signatures);
        }
        if (st == BIF_OK) {
            st = near_signatures(&rows, side, signatures, options, team, threads, most, &relation.pairs);
        }
    }
    BIF_TRY(team->agree(team->context, st));
    BIF_TRY(gather_pairs(&relation.pairs, false, most, team));
done:
    bif_rows_free(&rows);
    free(signatures);
    free(side);
    if (st != BIF_OK || team->rank != 0) {
        bif_relation_free(&relation);
    }
    *out = relation;
    return st;
}
