/* Conversations to ids and labels: one way through all templates of data/chat_templates.c. The cuts between segments are ours, so that a
 * label never depends on tokenizing a substring a second time. */
#include "data/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/chat_templates.h"
#include "data/tokenizer_internal.h"

static const char placeholder[] = "<image>";
#define PLACEHOLDER_SIZE (sizeof placeholder - 1)

void bif_encoded_free(bif_encoded *encoded)
{
    bif_ids_free(&encoded->ids);
    bif_ids_free(&encoded->labels);
    free(encoded->image_start);
    *encoded = (bif_encoded){0};
}

/* ---- the sequence under construction ---- */

typedef struct {
    const bif_chat *chat;
    const bif_template *t;
    bif_encoded *out;
    int64_t total;            /* tokens so far, also those beyond the limit, which are not stored */
    int64_t images, capacity; /* pictures so far; places in image_start */
    char *text;               /* text since the last cut */
    size_t used, text_capacity;
    bif_ids scratch;
    bif_text_place place; /* of the text that comes next */
} builder;

static bool full(const builder *b)
{
    return b->chat->max_tokens > 0 && (int64_t)b->out->ids.count >= b->chat->max_tokens;
}

static void put_id(builder *b, int32_t id, bool supervised)
{
    b->total++;
    if (full(b)) {
        return;
    }
    b->out->supervised += supervised && b->out->ids.count > 0;
    bif_ids_push(&b->out->ids, id);
    bif_ids_push(&b->out->labels, supervised ? id : BIF_LABEL_NONE);
}

static void put_text_n(builder *b, const char *text, size_t size)
{
    if (b->used + size > b->text_capacity) {
        b->text_capacity = (b->used + size) * 2;
        b->text = bif_realloc(b->text, b->text_capacity, 1);
    }
    if (size > 0) {
        memcpy(b->text + b->used, text, size);
        b->used += size;
    }
}

static void put_text(builder *b, const char *text)
{
    put_text_n(b, text, strlen(text));
}

/* A cut: the text since the last one is encoded as a whole. Text of special tokens in it stays text. */
static bif_status cut(builder *b, bool supervised)
{
    b->scratch.count = 0;
    bif_status st =
        b->used == 0 ? BIF_OK : bif_tokenizer_encode_at(b->chat->tokenizer, b->text, b->used, false, b->place, &b->scratch);
    b->place = b->used > 0 ? BIF_TEXT_CONTINUES : b->place;
    b->used = 0;
    for (size_t i = 0; st == BIF_OK && i < b->scratch.count; i++) {
        put_id(b, b->scratch.ids[i], supervised);
    }
    return st;
}

static bif_status put_special(builder *b, int32_t id, bool supervised)
{
    bif_status st = cut(b, supervised);
    if (st == BIF_OK) {
        put_id(b, id, supervised);
        b->place = id == b->chat->bos && b->total == 1              ? BIF_TEXT_START
                   : bif_tokenizer_goes_on(b->chat->tokenizer, id) ? BIF_TEXT_CONTINUES
                                                                   : BIF_TEXT_AFTER_SPECIAL;
    }
    return st;
}

/* The id of the special token at the start of `text`, a frame of a template, and its length there; 0 = text. -1: there is none, skip it. */
static size_t special_at(const bif_chat *chat, const char *text, int32_t *id)
{
    char name[32];
    const char *end = strncmp(text, "<|", 2) == 0 ? strstr(text, "|>") : NULL;
    if (*text == *BIF_FRAME_BOS || *text == *BIF_FRAME_EOS) {
        *id = *text == *BIF_FRAME_BOS ? chat->bos : chat->eos;
        return 1;
    }
    if (end == NULL) {
        return 0;
    }
    const size_t size = (size_t)(end - text) + 2;
    BIF_BUG_IF(size >= sizeof name, "the template has a special token of %zu bytes", size);
    memcpy(name, text, size);
    name[size] = '\0';
    *id = bif_tokenizer_special(chat->tokenizer, name);
    return size;
}

static bif_status put_frame(builder *b, const char *frame, bool supervised)
{
    for (size_t size = 0; *frame != '\0'; frame += size) {
        int32_t id = -1;
        size = special_at(b->chat, frame, &id);
        if (size == 0) {
            size = 1;
            put_text_n(b, frame, 1);
        } else if (id >= 0) {
            const bif_status st = put_special(b, id, supervised);
            if (st != BIF_OK) {
                return st;
            }
        }
    }
    return BIF_OK;
}

static bif_status put_image(builder *b)
{
    bif_status st = cut(b, false);
    if (st != BIF_OK) {
        return st;
    }
    b->images++;
    b->place = BIF_TEXT_START; /* LLaVA tokenizes what follows a picture on its own */
    if (!full(b)) { /* a picture that begins beyond the limit is dropped with its rows */
        if (b->out->images == b->capacity) {
            b->capacity = b->capacity ? b->capacity * 2 : 4;
            b->out->image_start = bif_realloc(b->out->image_start, (size_t)b->capacity, sizeof *b->out->image_start);
        }
        b->out->image_start[b->out->images++] = (int64_t)b->out->ids.count;
    }
    int64_t k = 0;
    for (; k < b->chat->image_tokens && !full(b); k++) {
        put_id(b, b->chat->image, false);
    }
    b->total += b->chat->image_tokens - k;
    return BIF_OK;
}

/* ---- values ---- */

/* What Python's str.strip() takes away. */
static bool strips(uint32_t code)
{
    return bif_is_space(code) || (code >= 0x1c && code <= 0x1f);
}

static void strip(const char **text, size_t *size)
{
    uint32_t code = 0;
    for (size_t step = 0; (step = bif_utf8_decode(*text, *size, &code)) > 0 && strips(code);) {
        *text += step;
        *size -= step;
    }
    size_t end = 0; /* behind the last character that stays */
    for (size_t at = 0, step = 0; (step = bif_utf8_decode(*text + at, *size - at, &code)) > 0; at += step) {
        end = strips(code) ? end : at + step;
    }
    *size = end;
}

static bool is_blank(const char *text)
{
    size_t size = strlen(text);
    strip(&text, &size);
    return size == 0;
}

int64_t bif_chat_placeholders(const char *value)
{
    int64_t count = 0;
    for (const char *p = value; (p = strstr(p, placeholder)) != NULL; p += PLACEHOLDER_SIZE) {
        count++;
    }
    return count;
}

/* Pictures to the front, each with a newline behind it, then the rest of the value without its placeholders, stripped (and no newline at
 * the end when nothing is left). */
static bif_status put_front(builder *b, const char *value, size_t length, int64_t images)
{
    bif_status st = BIF_OK;
    char *joined = bif_malloc(length + 1);
    size_t size = 0;
    for (size_t at = 0; at < length;) {
        if (length - at >= PLACEHOLDER_SIZE && memcmp(value + at, placeholder, PLACEHOLDER_SIZE) == 0) {
            at += PLACEHOLDER_SIZE;
        } else {
            joined[size++] = value[at++];
        }
    }
    const char *rest = joined;
    strip(&rest, &size);
    for (int64_t i = 0; i < images; i++) {
        BIF_TRY(put_image(b));
        if (i + 1 < images || size > 0) {
            put_text(b, "\n");
        }
    }
    put_text_n(b, rest, size);
done:
    free(joined);
    return st;
}

static bif_status put_kept(builder *b, const char *value, size_t length)
{
    for (size_t at = 0; at < length;) {
        if (length - at >= PLACEHOLDER_SIZE && memcmp(value + at, placeholder, PLACEHOLDER_SIZE) == 0) {
            const bif_status st = put_image(b);
            if (st != BIF_OK) {
                return st;
            }
            at += PLACEHOLDER_SIZE;
        } else {
            put_text_n(b, value + at++, 1);
        }
    }
    return BIF_OK;
}

/* ---- the parts of a conversation ---- */

typedef struct {
    const char *value;     /* borrowed from the JSON */
    int64_t placeholders;  /* of a human turn */
    int64_t images;        /* that it shows; without placeholders they come first */
} turn;

static void put_value(builder *b, const char *value)
{
    size_t size = strlen(value);
    if (b->t->strips) {
        strip(&value, &size);
    }
    put_text_n(b, value, size);
}

static bif_status put_question(builder *b, const turn *q)
{
    const bif_image_place place = b->chat->image_place;
    const char *value = q->value;
    size_t size = strlen(value);
    if (q->images == 0) {
        put_value(b, value);
        return BIF_OK;
    }
    if (b->t->strips) {
        strip(&value, &size);
    }
    const bool keep = q->placeholders > 0 &&
                      (place == BIF_IMAGE_KEEP || (place == BIF_IMAGE_LLAVA_NEXT && (q->placeholders > 1 ||
                                                                                    strncmp(value, placeholder, PLACEHOLDER_SIZE) == 0)));
    return keep ? put_kept(b, value, size) : put_front(b, value, size, q->images);
}

static bif_status put_system(builder *b)
{
    bif_status st = BIF_OK;
    const char *system = b->chat->system != NULL ? b->chat->system : b->t->system;
    if (*system != '\0') {
        BIF_TRY(put_frame(b, b->t->system_open, false));
        put_value(b, system);
        BIF_TRY(put_frame(b, b->t->system_close, false));
    }
done:
    return st;
}

static bif_status begin(builder *b)
{
    bif_status st = put_frame(b, b->t->begin, false);
    return st == BIF_OK && !b->t->system_in_turn && !b->t->no_question ? put_system(b) : st;
}

static bif_status human(builder *b, const turn *q, bool first)
{
    bif_status st = BIF_OK;
    const bif_template *t = b->t;
    if (t->no_question) {
        for (int64_t i = 0; i < q->images; i++) {
            BIF_TRY(put_image(b));
        }
    } else if (t->user_empty != NULL && *q->value == '\0' && q->images == 0) {
        BIF_TRY(put_frame(b, t->user_empty, false));
    } else {
        BIF_TRY(put_frame(b, t->user_open, false));
        BIF_TRY(first && t->system_in_turn ? put_system(b) : BIF_OK);
        BIF_TRY(put_question(b, q));
        BIF_TRY(put_frame(b, t->user_close, false));
    }
done:
    return st;
}

/* Up to where the answer starts; also where a prompt for generation ends. */
static bif_status open_answer(builder *b)
{
    const bif_status st = put_frame(b, b->t->answer_open, false);
    return st == BIF_OK ? cut(b, false) : st;
}

static bif_status answer(builder *b, const char *value)
{
    bif_status st = BIF_OK;
    BIF_TRY(open_answer(b));
    BIF_TRY(put_frame(b, b->t->answer_lead, true));
    put_value(b, value);
    BIF_TRY(put_frame(b, b->t->answer_close, true));
    BIF_TRY(cut(b, true));
    BIF_TRY(put_frame(b, b->t->answer_after, false));
done:
    return st;
}

/* ---- samples ---- */

/* Turns 0, 2, ... are human, 1, 3, ... are answers. A first answer without a question is dropped, as LLaVA does. */
static bif_status read_turns(const char *where, const json_t *list, turn **out, size_t *out_count)
{
    static const char *const roles[] = {"human", "gpt"};
    bif_status st = BIF_OK;
    size_t count = json_array_size(list), used = 0;
    turn *turns = bif_calloc(count, sizeof *turns);
    for (size_t i = 0; i < count; i++) {
        const char *from = NULL, *value = NULL;
        BIF_TRY(bif_json_string(where, json_array_get(list, i), "from", true, &from));
        BIF_TRY(bif_json_string(where, json_array_get(list, i), "value", true, &value));
        if (i == 0 && strcmp(from, "gpt") == 0) {
            continue;
        }
        if (strcmp(from, roles[used % 2]) != 0) {
            st = bif_fail(BIF_ERR_DATA, "%s: turn %zu is from '%s', but '%s' is expected", where, i, from,
                          roles[used % 2]);
            goto done;
        }
        if (used % 2 == 1 && is_blank(value)) {
            st = bif_fail(BIF_ERR_DATA, "%s: the answer in turn %zu is empty", where, i);
            goto done;
        }
        turns[used] = (turn){.value = value, .placeholders = used % 2 == 0 ? bif_chat_placeholders(value) : 0};
        used++;
    }
    if (used < 2) {
        st = bif_fail(BIF_ERR_DATA, "%s: no question with an answer in its %zu turns", where, count);
        goto done;
    }
    *out = turns;
    *out_count = used;
    turns = NULL;
done:
    free(turns);
    return st;
}

/* How many pictures each turn shows. */
static bif_status deal_images(const builder *b, const char *where, turn *turns, size_t count, int64_t images)
{
    int64_t placeholders = 0, holders = 0;
    for (size_t i = 0; i < count; i++) {
        placeholders += turns[i].placeholders;
        holders += turns[i].placeholders > 0;
    }
    const bool one_each = placeholders != images && holders == images && b->chat->image_place == BIF_IMAGE_FRONT;
    if (placeholders != images && !one_each) {
        return bif_fail(BIF_ERR_DATA, "%s: %lld %s placeholders but %lld pictures", where, (long long)placeholders,
                        placeholder, (long long)images);
    }
    for (size_t i = 0; i < count; i++) {
        turns[i].images = one_each ? turns[i].placeholders > 0 : turns[i].placeholders;
    }
    return BIF_OK;
}

static bif_status put_turns(builder *b, const char *where, const turn *turns, size_t count)
{
    bif_status st = BIF_OK;
    if (b->t->no_question && count > 2) {
        return bif_fail(BIF_ERR_DATA, "%s: %zu turns; template %s takes one question and its caption", where, count, b->t->name);
    }
    BIF_TRY(begin(b));
    for (size_t i = 0; i < count; i++) {
        BIF_TRY(i % 2 == 0 ? human(b, &turns[i], i == 0) : answer(b, turns[i].value));
    }
done:
    return st;
}

static bif_status encode_turns(builder *b, const char *where, const turn *turns, size_t count)
{
    const bif_status st = put_turns(b, where, turns, count);
    return st == BIF_OK ? cut(b, false) : st;
}

/* A caption is the answer to a turn that holds only its pictures. */
static bif_status encode_caption(builder *b, const char *where, const char *caption, int64_t images)
{
    const turn turns[2] = {{.value = "", .images = images}, {.value = caption}};
    if (is_blank(caption)) {
        return bif_fail(BIF_ERR_DATA, "%s: the caption is empty", where);
    }
    return encode_turns(b, where, turns, 2);
}

/* The special tokens that the template's frames name. */
static bif_status check_specials(const bif_chat *chat, const bif_template *t)
{
    const char *const frames[] = {t->begin, t->system_open, t->system_close, t->user_open, t->user_close,
                                  t->answer_open, t->answer_lead, t->answer_close, t->answer_after};
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        for (const char *at = frames[i]; *at != '\0';) {
            int32_t id = 0;
            const size_t size = special_at(chat, at, &id);
            if (size > 1 && id < 0) {
                return bif_fail(BIF_ERR_CONFIG, "template %s needs a tokenizer with %.*s", t->name, (int)size, at);
            }
            if (*at == *BIF_FRAME_EOS && id < 0) {
                return bif_fail(BIF_ERR_CONFIG, "template %s needs an EOS, and there is none", t->name);
            }
            at += size > 0 ? size : 1;
        }
    }
    return BIF_OK;
}

static bif_status builder_open(builder *b, const bif_chat *chat, int64_t images, bif_encoded *out)
{
    int64_t rows = 0, vocab = bif_tokenizer_vocab(chat->tokenizer);
    *out = (bif_encoded){0};
    *b = (builder){.chat = chat, .t = &bif_templates[chat->kind], .out = out};
    if (chat->bos >= vocab || chat->eos >= vocab) {
        return bif_fail(BIF_ERR_CONFIG, "template %s: BOS id %d or EOS id %d is not in the tokenizer (%lld ids)",
                        b->t->name, chat->bos, chat->eos, (long long)vocab);
    }
    const bif_status st = check_specials(chat, b->t);
    if (st != BIF_OK) {
        return st;
    }
    if (images > 0 && (chat->image == -1 || chat->image >= vocab || chat->image_tokens < 1)) {
        return bif_fail(BIF_ERR_CONFIG, "pictures need an image token and image_tokens >= 1 (id %d of %lld, %lld rows)",
                        chat->image, (long long)vocab, (long long)chat->image_tokens);
    }
    if (!bif_mul_i64(images, images > 0 ? chat->image_tokens : 0, &rows) || rows > INT32_MAX) {
        return bif_fail(BIF_ERR_DATA, "%lld pictures of %lld rows in one sample", (long long)images,
                        (long long)chat->image_tokens);
    }
    return BIF_OK;
}

/* Checks the length and frees the scratch; with a failure (also an earlier one, `st`) *out is empty. */
static bif_status builder_close(builder *b, const char *where, bool truncate, bif_status st)
{
    free(b->text);
    bif_ids_free(&b->scratch);
    if (st == BIF_OK && b->total > (int64_t)b->out->ids.count && !truncate) {
        st = bif_fail(BIF_ERR_DATA, "%s: sample has %lld tokens, limit %lld", where, (long long)b->total,
                      (long long)b->chat->max_tokens);
    }
    if (st != BIF_OK) {
        bif_encoded_free(b->out);
    }
    return st;
}

bif_status bif_chat_encode(const bif_chat *chat, const char *where, const char *json, size_t size, int64_t images,
                           bif_encoded *out)
{
    bif_status st = BIF_OK;
    json_t *sample = NULL;
    turn *turns = NULL;
    size_t count = 0;
    const char *caption = NULL;
    builder b;
    BIF_TRY(builder_open(&b, chat, images, out));
    BIF_TRY(bif_json_parse(where, json, size, &sample));
    const json_t *list = json_object_get(sample, "conversations");
    if (json_is_array(list)) {
        BIF_TRY(read_turns(where, list, &turns, &count));
        BIF_TRY(deal_images(&b, where, turns, count, images));
        BIF_TRY(encode_turns(&b, where, turns, count));
    } else if (list == NULL && json_object_get(sample, "caption") != NULL) {
        BIF_TRY(bif_json_string(where, sample, "caption", true, &caption));
        BIF_TRY(encode_caption(&b, where, caption, images));
    } else {
        st = bif_fail(BIF_ERR_DATA, "%s: neither a list \"conversations\" nor a \"caption\"", where);
        goto done;
    }
    if (out->supervised == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: nothing is supervised%s", where,
                      b.total > (int64_t)out->ids.count ? " within the limit" : "");
    }
done:
    free(turns);
    json_decref(sample);
    return builder_close(&b, where, chat->truncate, st);
}

bif_status bif_chat_prompt(const bif_chat *chat, const char *prompt, int64_t images, bif_encoded *out)
{
    bif_status st = BIF_OK;
    builder b;
    BIF_TRY(builder_open(&b, chat, images, out));
    turn question = {.value = prompt, .placeholders = bif_chat_placeholders(prompt), .images = images};
    BIF_TRY(question.placeholders == 0 ? BIF_OK : deal_images(&b, "prompt", &question, 1, images));
    if (bif_utf8_check(prompt, strlen(prompt)) < strlen(prompt)) {
        st = bif_fail(BIF_ERR_DATA, "prompt: not UTF-8");
        goto done;
    }
    BIF_TRY(begin(&b));
    BIF_TRY(human(&b, &question, true));
    BIF_TRY(open_answer(&b));
done:
    return builder_close(&b, "prompt", false, st); /* a prompt without its end is no prompt */
}

bif_status bif_chat_dialogue(const bif_chat *chat, const char *const *values, size_t count, int64_t images, bif_encoded *out)
{
    static const char where[] = "conversation";
    bif_status st = BIF_OK;
    builder b;
    BIF_BUG_IF(count % 2 != 1, "%zu turns do not end with a question", count);
    turn *turns = bif_calloc(count, sizeof *turns);
    BIF_TRY(builder_open(&b, chat, images, out));
    for (size_t i = 0; i < count; i++) {
        turns[i] = (turn){.value = values[i], .placeholders = i % 2 == 0 ? bif_chat_placeholders(values[i]) : 0};
        if (bif_utf8_check(values[i], strlen(values[i])) < strlen(values[i])) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: turn %zu is not UTF-8", where, i));
        }
    }
    BIF_TRY(deal_images(&b, where, turns, count, images));
    BIF_TRY(put_turns(&b, where, turns, count));
    BIF_TRY(open_answer(&b));
done:
    free(turns);
    return builder_close(&b, where, false, st);
}

size_t bif_chat_said(const bif_chat *chat, const char *text)
{
    const char *close = bif_templates[chat->kind].answer_close;
    const size_t length = strlen(text), size = strcspn(close, BIF_FRAME_EOS "<"); /* up to a special token */
    return size <= length && memcmp(text + length - size, close, size) == 0 ? length - size : length;
}

int32_t bif_chat_stop(const bif_chat *chat)
{
    int32_t id = -1;
    (void)special_at(chat, bif_templates[chat->kind].stop, &id);
    return id;
}
