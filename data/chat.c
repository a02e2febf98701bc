/* Conversations to ids and labels. The text is LLaVA's to the character (preprocess_plain, preprocess_v1, MPT style for
 * chatml); the cuts between segments are ours, so that a label never depends on tokenizing a substring a second time.
 */
#include "data/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/tokenizer_internal.h"

static const char placeholder[] = "<image>";
#define PLACEHOLDER_SIZE (sizeof placeholder - 1)

static const char *const names[] = {
    [BIF_TEMPLATE_PLAIN] = "plain", [BIF_TEMPLATE_VICUNA_V1] = "vicuna_v1", [BIF_TEMPLATE_CHATML] = "chatml"};

static const char *const systems[] = {
    [BIF_TEMPLATE_PLAIN] = "",
    [BIF_TEMPLATE_VICUNA_V1] = ("A chat between a curious user and an artificial intelligence assistant. "
                                "The assistant gives helpful, detailed, and polite answers to the user's questions."),
    [BIF_TEMPLATE_CHATML] = "You are a helpful assistant.",
};

bif_status bif_template_by_name(const char *name, bif_template_kind *out)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (bif_template_kind)i;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_CONFIG, "there is no template '%s' (plain, vicuna_v1, chatml)", name);
}

const char *bif_template_name(bif_template_kind kind)
{
    return names[kind];
}

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
    bif_encoded *out;
    int32_t im_start, im_end; /* chatml */
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
    bif_status st = cut(b, false);
    if (st == BIF_OK) {
        put_id(b, id, supervised);
        b->place = id == b->chat->bos ? BIF_TEXT_START : BIF_TEXT_AFTER_SPECIAL;
    }
    return st;
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

static int64_t count_placeholders(const char *value)
{
    int64_t count = 0;
    for (const char *p = value; (p = strstr(p, placeholder)) != NULL; p += PLACEHOLDER_SIZE) {
        count++;
    }
    return count;
}

/* A human value: as it is without pictures; else `count` pictures, each with a newline behind it, then the rest of the
 * value without its placeholders, stripped (and no newline at the end when nothing is left). */
static bif_status put_question(builder *b, const char *value, int64_t count)
{
    bif_status st = BIF_OK;
    if (count == 0) {
        put_text(b, value);
        return BIF_OK;
    }
    char *joined = bif_malloc(strlen(value) + 1);
    size_t size = 0;
    for (const char *p = value; *p != '\0';) {
        const char *next = strstr(p, placeholder);
        size_t take = next == NULL ? strlen(p) : (size_t)(next - p);
        memcpy(joined + size, p, take);
        size += take;
        p += take + (next == NULL ? 0 : PLACEHOLDER_SIZE);
    }
    const char *rest = joined;
    strip(&rest, &size);
    for (int64_t i = 0; i < count; i++) {
        BIF_TRY(put_image(b));
        if (i + 1 < count || size > 0) {
            put_text(b, "\n");
        }
    }
    put_text_n(b, rest, size);
done:
    free(joined);
    return st;
}

/* ---- templates ---- */

static bif_status begin(builder *b)
{
    bif_status st = BIF_OK;
    const bif_chat *c = b->chat;
    const char *system = c->system != NULL ? c->system : systems[c->kind];
    if (c->kind == BIF_TEMPLATE_CHATML) {
        if (*system != '\0') {
            BIF_TRY(put_special(b, b->im_start, false));
            put_text(b, "system\n");
            put_text(b, system);
            BIF_TRY(put_special(b, b->im_end, false));
            put_text(b, "\n");
        }
        goto done;
    }
    if (c->bos >= 0) {
        BIF_TRY(put_special(b, c->bos, false));
    }
    if (c->kind == BIF_TEMPLATE_VICUNA_V1 && *system != '\0') {
        put_text(b, system);
        put_text(b, " ");
    }
done:
    return st;
}

/* LLaVA writes an empty message as "USER:" without the spaces around it. */
static bif_status human(builder *b, const char *value, int64_t count)
{
    bif_status st = BIF_OK;
    if (b->chat->kind == BIF_TEMPLATE_CHATML) {
        BIF_TRY(put_special(b, b->im_start, false));
        put_text(b, "user\n");
        BIF_TRY(put_question(b, value, count));
        BIF_TRY(put_special(b, b->im_end, false));
        put_text(b, "\n");
    } else if (*value == '\0' && count == 0) {
        put_text(b, "USER:");
    } else {
        put_text(b, "USER: ");
        BIF_TRY(put_question(b, value, count));
        put_text(b, " ");
    }
done:
    return st;
}

/* Up to where the answer starts; also where a prompt for generation ends. */
static bif_status open_answer(builder *b)
{
    bif_status st = BIF_OK;
    if (b->chat->kind == BIF_TEMPLATE_CHATML) {
        BIF_TRY(put_special(b, b->im_start, false));
        put_text(b, "assistant\n");
    } else {
        put_text(b, "ASSISTANT:");
    }
    BIF_TRY(cut(b, false));
done:
    return st;
}

static bif_status answer(builder *b, const char *value)
{
    bif_status st = BIF_OK;
    bool chatml = b->chat->kind == BIF_TEMPLATE_CHATML;
    BIF_TRY(open_answer(b));
    put_text(b, chatml ? "" : " ");
    put_text(b, value);
    BIF_TRY(cut(b, true));
    BIF_TRY(put_special(b, chatml ? b->im_end : b->chat->eos, true));
    put_text(b, chatml ? "\n" : "");
done:
    return st;
}

static bif_status plain_prefix(builder *b, int64_t images)
{
    bif_status st = BIF_OK;
    BIF_TRY(begin(b));
    for (int64_t i = 0; i < images; i++) {
        BIF_TRY(put_image(b));
    }
done:
    return st;
}

static bif_status plain_caption(builder *b, const char *caption, int64_t images)
{
    bif_status st = BIF_OK;
    BIF_TRY(plain_prefix(b, images));
    put_text(b, caption);
    put_text(b, "\n");
    BIF_TRY(cut(b, true));
done:
    return st;
}

/* ---- samples ---- */

typedef struct {
    const char *value; /* borrowed from the JSON */
    int64_t images;    /* placeholders of a human turn */
} turn;

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
        turns[used] = (turn){.value = value, .images = used % 2 == 0 ? count_placeholders(value) : 0};
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

static bif_status encode_turns(builder *b, const char *where, const turn *turns, size_t count, int64_t images)
{
    bif_status st = BIF_OK;
    int64_t placeholders = 0;
    for (size_t i = 0; i < count; i++) {
        placeholders += turns[i].images;
    }
    if (placeholders != images) {
        return bif_fail(BIF_ERR_DATA, "%s: %lld %s placeholders but %lld pictures", where, (long long)placeholders,
                        placeholder, (long long)images);
    }
    if (b->chat->kind == BIF_TEMPLATE_PLAIN) {
        return count == 2 ? plain_caption(b, turns[1].value, images)
                          : bif_fail(BIF_ERR_DATA, "%s: %zu turns; template plain takes one question and its caption",
                                     where, count);
    }
    BIF_TRY(begin(b));
    for (size_t i = 0; i < count; i++) {
        BIF_TRY(i % 2 == 0 ? human(b, turns[i].value, turns[i].images) : answer(b, turns[i].value));
    }
    BIF_TRY(cut(b, false));
done:
    return st;
}

/* A caption is the answer to a turn that holds only its pictures. */
static bif_status encode_caption(builder *b, const char *where, const char *caption, int64_t images)
{
    if (is_blank(caption)) {
        return bif_fail(BIF_ERR_DATA, "%s: the caption is empty", where);
    }
    if (b->chat->kind == BIF_TEMPLATE_PLAIN) {
        return plain_caption(b, caption, images);
    }
    turn turns[2] = {{.value = "", .images = images}, {.value = caption}};
    return encode_turns(b, where, turns, 2, images);
}

static bif_status builder_open(builder *b, const bif_chat *chat, int64_t images, bif_encoded *out)
{
    int64_t rows = 0, vocab = bif_tokenizer_vocab(chat->tokenizer);
    *out = (bif_encoded){0};
    *b = (builder){.chat = chat, .out = out, .im_start = -1, .im_end = -1};
    if (chat->kind == BIF_TEMPLATE_CHATML) {
        b->im_start = bif_tokenizer_special(chat->tokenizer, "<|im_start|>");
        b->im_end = bif_tokenizer_special(chat->tokenizer, "<|im_end|>");
        if (b->im_start < 0 || b->im_end < 0) {
            return bif_fail(BIF_ERR_CONFIG, "template chatml needs a tokenizer with <|im_start|> and <|im_end|>");
        }
    } else if (chat->bos >= vocab || chat->eos >= vocab || (chat->eos < 0 && chat->kind != BIF_TEMPLATE_PLAIN)) {
        return bif_fail(BIF_ERR_CONFIG, "template %s: BOS id %d or EOS id %d is not in the tokenizer (%lld ids)",
                        names[chat->kind], chat->bos, chat->eos, (long long)vocab);
    }
    if (images > 0 && (chat->image < 0 || chat->image >= vocab || chat->image_tokens < 1)) {
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
        BIF_TRY(encode_turns(&b, where, turns, count, images));
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
    int64_t own = count_placeholders(prompt);
    if (own != 0 && own != images) {
        st = bif_fail(BIF_ERR_DATA, "prompt: %lld %s placeholders but %lld pictures", (long long)own, placeholder,
                      (long long)images);
        goto done;
    }
    if (bif_utf8_check(prompt, strlen(prompt)) < strlen(prompt)) {
        st = bif_fail(BIF_ERR_DATA, "prompt: not UTF-8");
        goto done;
    }
    if (chat->kind == BIF_TEMPLATE_PLAIN) {
        BIF_TRY(plain_prefix(&b, images)); /* training never sees the question */
        goto done;
    }
    BIF_TRY(begin(&b));
    BIF_TRY(human(&b, prompt, images));
    BIF_TRY(open_answer(&b));
done:
    return builder_close(&b, "prompt", false, st); /* a prompt without its end is no prompt */
}

int32_t bif_chat_stop(const bif_chat *chat)
{
    return chat->kind == BIF_TEMPLATE_CHATML ? bif_tokenizer_special(chat->tokenizer, "<|im_end|>") : chat->eos;
}
