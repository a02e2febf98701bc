#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/chat_templates.h"
#include "data/tokenizer.h"
#include "train/gguf_model.h"

#define SIDE_CAP ((size_t)16 << 20)
#define MARK "\xe2\x96\x81" /* SentencePiece's space */

typedef struct {
    const char *path;
    bif_tokenizer *tokenizer;
    bif_tokenizer_view view;
    json_t *config;       /* tokenizer_config.json beside it, or NULL */
    const char *pre;      /* GPT-2's kind: llama.cpp's name of the pre-tokenizer */
    bool prefix_space;    /* SentencePiece's kind */
    float *score;         /* likewise, [vocab] */
} source;

/* ---- GPT-2's kind: which of llama.cpp's pre-tokenizers cuts as this one ---- */

#define WORDS_LLAMA3(digits) \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *digits;  /* a step before that cuts out digits one by one, as Split or Digits */
    const char *pattern; /* of Split; NULL: ByteLevel's own, GPT-2's */
    bool ignore_merges;
    const char *name;
} known[] = {
    {NULL, NULL, false, "gpt-2"},
    {"\\p{N}", NULL, false, "smollm"},
    {NULL, WORDS_LLAMA3("{1,3}"), true, "llama-bpe"},
    {NULL, WORDS_LLAMA3("{1,3}"), false, "smaug-bpe"},
    {NULL, WORDS_LLAMA3(""), false, "qwen2"},
};

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static const char *type_of(const json_t *step)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    return type == NULL ? "" : type;
}

/* The pattern by which a step cuts everything it finds into a piece of its own; NULL for any other step. */
static const char *isolating(const json_t *step)
{
    if (strcmp(type_of(step), "Digits") == 0) {
        return json_is_true(json_object_get(step, "individual_digits")) ? "\\p{N}" : NULL;
    }
    const char *behavior = json_string_value(json_object_get(step, "behavior"));
    const bool isolated = strcmp(type_of(step), "Split") == 0 && behavior != NULL && strcmp(behavior, "Isolated") == 0;
    const json_t *regex = json_object_get(json_object_get(step, "pattern"), "Regex");
    return isolated && !json_is_true(json_object_get(step, "invert")) ? json_string_value(regex) : NULL;
}

/* NULL when none of llama.cpp's that are known here is the same. */
static const char *find_pre(const bif_tokenizer_view *view, const json_t *root)
{
    const json_t *list = json_object_get(root, "pretokenizers"), *byte_level = root;
    const size_t count = list == NULL ? 0 : json_array_size(list) - 1; /* steps before ByteLevel, which is the last */
    const char *pattern[2] = {NULL, NULL};
    if (list != NULL) {
        byte_level = json_array_get(list, count);
    }
    for (size_t i = 0; i < count; i++) {
        pattern[i < 2 ? i : 1] = isolating(json_array_get(list, i));
        if (count > 2 || pattern[i] == NULL) {
            return NULL;
        }
    }
    const json_t *regex = json_object_get(byte_level, "use_regex"), *prefix = json_object_get(byte_level, "add_prefix_space");
    const bool own = regex == NULL || json_is_null(regex) || json_is_true(regex); /* HF's defaults are true */
    if (prefix == NULL || !json_is_false(prefix)) {
        return NULL;
    }
    const char *digits = own ? pattern[0] : count == 2 ? pattern[0] : NULL;
    const char *words = own ? pattern[1] : pattern[count == 0 ? 0 : count - 1];
    if (!own && words == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (same(known[i].digits, digits) && same(known[i].pattern, words) && known[i].ignore_merges == view->ignore_merges) {
            return known[i].name;
        }
    }
    return NULL;
}

static bif_status check_byte_level(source *s, const char *pre)
{
    bif_status st = BIF_OK;
    const bif_tokenizer_view *view = &s->view;
    json_t *steps = NULL, *normalizer = NULL;
    if (view->normalizer != NULL) {
        BIF_TRY(bif_json_parse(s->path, view->normalizer, strlen(view->normalizer), &normalizer));
    }
    if (view->word_end || (normalizer != NULL && strcmp(type_of(normalizer), "NFC") != 0)) {
        st = bif_fail(BIF_ERR_CONFIG, "%s: llama.cpp has no byte-level tokenizer with %s", s->path,
                      view->word_end ? "an end_of_word_suffix (CLIP's)" : "a normalizer but NFC");
        goto done;
    }
    BIF_TRY(bif_json_parse(s->path, view->pre_tokenizer, strlen(view->pre_tokenizer), &steps));
    s->pre = pre != NULL ? pre : find_pre(view, steps);
    if (s->pre == NULL) {
        st = bif_fail(BIF_ERR_CONFIG,
                      "%s: none of the pre-tokenizers gpt-2, smollm, llama-bpe, smaug-bpe and qwen2 of llama.cpp cuts as %.400s%s; if it "
                      "has one that does, --pre NAME names it",
                      s->path, view->pre_tokenizer, view->ignore_merges ? " with ignore_merges" : "");
        goto done;
    }
    if (normalizer != NULL) {
        bif_info("%s: it brings text into NFC form, which llama.cpp leaves to its caller", s->path);
    }
done:
    json_decref(steps);
    json_decref(normalizer);
    return st;
}

/* ---- SentencePiece's kind ---- */

static bool replaces_spaces(const json_t *n)
{
    const char *pattern = json_string_value(json_object_get(json_object_get(n, "pattern"), "String"));
    const char *content = json_string_value(json_object_get(n, "content"));
    return strcmp(type_of(n), "Replace") == 0 && pattern != NULL && same(pattern, " ") && content != NULL && same(content, MARK);
}

/* The step of bif_tokenizer_save that takes the mark off where a text begins with a special token. */
static bool spares_specials(const json_t *n)
{
    const char *pattern = json_string_value(json_object_get(json_object_get(n, "pattern"), "Regex"));
    const char *content = json_string_value(json_object_get(n, "content")), start[] = "(?<!\\s)(?<!\\S)" MARK "(?=";
    return strcmp(type_of(n), "Replace") == 0 && pattern != NULL && strncmp(pattern, start, sizeof start - 1) == 0 && content != NULL &&
           *content == '\0';
}

/* tokenizer.json that turns spaces into marks, perhaps with one in front, and does nothing else: Prepend and Replace, or Metaspace. */
static bool marks_spaces(const json_t *normalizer, const json_t *pre, bool *prefix_space)
{
    *prefix_space = false;
    if (normalizer == NULL) {
        const char *mark = json_string_value(json_object_get(pre, "replacement"));
        const char *scheme = json_string_value(json_object_get(pre, "prepend_scheme"));
        *prefix_space = scheme != NULL ? strcmp(scheme, "never") != 0 : !json_is_false(json_object_get(pre, "add_prefix_space"));
        return strcmp(type_of(pre), "Metaspace") == 0 && json_is_false(json_object_get(pre, "split")) && (mark == NULL || same(mark, MARK));
    }
    if (pre != NULL || strcmp(type_of(normalizer), "Sequence") != 0) {
        return pre == NULL && replaces_spaces(normalizer);
    }
    const json_t *list = json_object_get(normalizer, "normalizers"), *first = json_array_get(list, 0);
    const char *prepend = json_string_value(json_object_get(first, "prepend"));
    const size_t count = json_array_size(list);
    *prefix_space = count >= 2 && strcmp(type_of(first), "Prepend") == 0 && prepend != NULL && strcmp(prepend, MARK) == 0;
    const bool spares = *prefix_space && spares_specials(json_array_get(list, 1));
    return count == 1u + *prefix_space + spares && replaces_spaces(json_array_get(list, count - 1));
}

static bif_status check_spaces(source *s)
{
    bif_status st = BIF_OK;
    const bif_tokenizer_view *view = &s->view;
    json_t *normalizer = NULL, *pre = NULL;
    const char *bad = NULL;
    s->prefix_space = view->prefix_space;
    s->score = bif_calloc((size_t)bif_tokenizer_vocab(s->tokenizer), sizeof *s->score);
    if (view->sentencepiece) {
        bad = view->unigram      ? "cuts by a unigram model; llama.cpp has SentencePiece's BPE"
              : view->rewrites   ? "normalizes characters or drops spaces, which llama.cpp does not do"
              : view->unused     ? "has unused pieces, which llama.cpp would give out"
              : !view->byte_fallback ? "has no byte pieces, which llama.cpp needs"
                                 : NULL;
        bif_tokenizer_scores(s->tokenizer, s->score);
    } else {
        BIF_TRY(view->normalizer == NULL ? BIF_OK : bif_json_parse(s->path, view->normalizer, strlen(view->normalizer), &normalizer));
        BIF_TRY(view->pre_tokenizer == NULL ? BIF_OK : bif_json_parse(s->path, view->pre_tokenizer, strlen(view->pre_tokenizer), &pre));
        if (!view->byte_fallback) {
            bad = "is neither byte-level nor one with byte pieces, and llama.cpp has no other BPE";
        } else if (view->ignore_merges) {
            bad = "has byte pieces and ignore_merges, which llama.cpp does not know together";
        } else if (!marks_spaces(normalizer, pre, &s->prefix_space)) {
            bad = "does more with a text than to mark its spaces, which llama.cpp does not do";
        } else if (!bif_tokenizer_scores(s->tokenizer, s->score)) {
            bad = "has merges that are not those of a SentencePiece model, and llama.cpp has no others for pieces of characters";
        }
    }
    st = bad == NULL ? BIF_OK : bif_fail(BIF_ERR_CONFIG, "%s: this tokenizer %s", s->path, bad);
done:
    json_decref(normalizer);
    json_decref(pre);
    return st;
}

/* ---- tokens ---- */

typedef struct {
    char *text;
    size_t size;
    bif_token_type type;
} token;

static int compare_tokens(const void *a, const void *b)
{
    const token *x = *(const token *const *)a, *y = *(const token *const *)b;
    const int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

/* llama.cpp finds tokens by their texts, and stops the program when two have the same. */
static bif_status check_texts(const source *s, const token *tokens, int64_t count)
{
    bif_status st = BIF_OK;
    const token **order = bif_calloc((size_t)count, sizeof(*order));
    for (int64_t i = 0; i < count; i++) {
        order[i] = &tokens[i];
    }
    qsort(order, (size_t)count, sizeof(*order), compare_tokens);
    for (int64_t i = 1; i < count && st == BIF_OK; i++) {
        if (compare_tokens(&order[i - 1], &order[i]) == 0) {
            st = bif_fail(BIF_ERR_DATA, "%s: tokens %lld and %lld are both '%.*s', and llama.cpp wants different texts", s->path,
                          (long long)(order[i - 1] - tokens), (long long)(order[i] - tokens), (int)order[i]->size, order[i]->text);
        }
    }
    free(order);
    return st;
}

static bif_status put_tokens(const source *s, bif_gguf *file, int64_t rows)
{
    const int64_t vocab = bif_tokenizer_vocab(s->tokenizer);
    token *tokens = bif_calloc((size_t)rows, sizeof *tokens);
    int32_t *types = bif_calloc((size_t)rows, sizeof *types);
    float *scores = bif_calloc((size_t)rows, sizeof *scores);
    for (int64_t i = 0; i < rows; i++) {
        token *t = &tokens[i];
        const int32_t id = (int32_t)i;
        t->type = i < vocab ? bif_tokenizer_type(s->tokenizer, id) : BIF_TOKEN_UNUSED;
        if (i >= vocab) {
            t->text = bif_format("[PAD%lld]", (long long)i);
        } else if (t->type == BIF_TOKEN_USER_DEFINED && !s->view.byte_level) { /* spaces as spaces: it is looked for in the raw text */
            const char *bytes = bif_tokenizer_token(s->tokenizer, id, &t->size);
            t->text = bif_format("%.*s", (int)t->size, bytes);
        } else {
            t->text = bif_tokenizer_piece(s->tokenizer, id);
        }
        t->size = strlen(t->text);
        types[i] = (int32_t)t->type;
        if (s->score != NULL) { /* added tokens: what llama.cpp's own converter gives them */
            const bool added = t->type == BIF_TOKEN_CONTROL || t->type == BIF_TOKEN_USER_DEFINED;
            scores[i] = i >= vocab ? -10000.0f : added && s->score[i] == 0.0f ? -1000.0f : s->score[i];
        }
    }
    const bif_status st = check_texts(s, tokens, rows);
    bif_gguf_begin_texts(file, "tokenizer.ggml.tokens", (size_t)rows);
    for (int64_t i = 0; i < rows; i++) {
        bif_gguf_text(file, tokens[i].text, tokens[i].size);
        free(tokens[i].text);
    }
    if (s->score != NULL) {
        bif_gguf_put_f32s(file, "tokenizer.ggml.scores", scores, (size_t)rows);
    }
    bif_gguf_put_i32s(file, "tokenizer.ggml.token_type", types, (size_t)rows);
    free(tokens);
    free(types);
    free(scores);
    return st;
}

static void put_merges(const source *s, bif_gguf *file)
{
    bif_gguf_begin_texts(file, "tokenizer.ggml.merges", (size_t)s->view.merges);
    for (int64_t i = 0; i < s->view.merges; i++) {
        int32_t left = 0, right = 0;
        bif_tokenizer_merge(s->tokenizer, i, &left, &right);
        char *a = bif_tokenizer_piece(s->tokenizer, left), *b = bif_tokenizer_piece(s->tokenizer, right), *line = bif_format("%s %s", a, b);
        bif_gguf_text(file, line, strlen(line));
        free(a);
        free(b);
        free(line);
    }
}

/* ---- special tokens ---- */

/* Whether a text begins with BOS: as the template it was trained with, else as the tokenizer's files say. */
static bif_status wants_bos(const source *s, const bif_model_config *c, bool *out)
{
    bif_status st = BIF_OK;
    json_t *post = NULL;
    bif_template_kind kind = BIF_TEMPLATE_PLAIN;
    *out = c->decoder.bos >= 0 && s->view.sentencepiece;
    if (c->decoder.bos < 0) {
        goto done;
    }
    if (*c->template_name != '\0') {
        BIF_TRY(bif_template_by_name(c->template_name, &kind));
        const char *begin = *bif_templates[kind].begin != '\0' ? bif_templates[kind].begin : bif_templates[kind].user_open;
        *out = *begin == *BIF_FRAME_BOS || strncmp(begin, "<|begin_of_text|>", 17) == 0;
        goto done;
    }
    if (s->view.post_processor != NULL) {
        BIF_TRY(bif_json_parse(s->path, s->view.post_processor, strlen(s->view.post_processor), &post));
        const json_t *list = json_object_get(post, "processors");
        for (size_t i = 0; i < (list != NULL ? json_array_size(list) : 1); i++) {
            const json_t *single = json_object_get(list != NULL ? json_array_get(list, i) : post, "single");
            const char *first = json_string_value(json_object_get(json_object_get(json_array_get(single, 0), "SpecialToken"), "id"));
            *out = *out || (first != NULL && bif_tokenizer_special(s->tokenizer, first) == c->decoder.bos);
        }
    }
    if (s->config != NULL) {
        BIF_TRY(bif_json_bool(s->path, s->config, "add_bos_token", false, out));
    }
done:
    json_decref(post);
    return st;
}

static bif_status put_specials(const source *s, bif_gguf *file, const bif_model_config *c)
{
    bif_status st = BIF_OK;
    bool add_bos = false;
    const int32_t bos = c->decoder.bos >= 0 ? c->decoder.bos : c->decoder.eos; /* llama.cpp has a default where there is none */
    const int64_t tokens = bif_tokenizer_vocab(s->tokenizer), below = tokens < c->decoder.vocab ? tokens : c->decoder.vocab;
    if (c->decoder.eos < 0 || c->decoder.eos >= below || bos >= below) {
        return bif_fail(BIF_ERR_CONFIG, "%s: the model has no eos_token_id, or its bos or eos is not below %lld; llama.cpp would take "
                        "another token for the end: write it into config.json", s->path, (long long)below);
    }
    BIF_TRY(wants_bos(s, c, &add_bos));
    bif_gguf_put_u32(file, "tokenizer.ggml.bos_token_id", bos);
    bif_gguf_put_u32(file, "tokenizer.ggml.eos_token_id", c->decoder.eos);
    if (s->view.unknown >= 0) {
        bif_gguf_put_u32(file, "tokenizer.ggml.unknown_token_id", s->view.unknown);
    }
    if (c->pad_token >= 0 && c->pad_token < c->decoder.vocab) {
        bif_gguf_put_u32(file, "tokenizer.ggml.padding_token_id", c->pad_token);
    }
    bif_gguf_put_bool(file, "tokenizer.ggml.add_bos_token", add_bos);
    bif_gguf_put_bool(file, "tokenizer.ggml.add_eos_token", false);
    bif_gguf_put_bool(file, "tokenizer.ggml.add_space_prefix", s->score != NULL && s->prefix_space);
    if (c->decoder.classes > 0 && c->decoder.classes < c->decoder.vocab) { /* rows that training left out of the softmax */
        const size_t count = (size_t)(c->decoder.vocab - c->decoder.classes);
        int32_t *ids = bif_malloc(count * sizeof *ids);
        for (size_t i = 0; i < count; i++) {
            ids[i] = (int32_t)(c->decoder.classes + (int64_t)i);
        }
        bif_gguf_put_i32s(file, "tokenizer.ggml.suppress_tokens", ids, count);
        free(ids);
    }
done:
    return st;
}

/* chat_template.jinja, else chat_template of tokenizer_config.json (a text, or a list of which "default" is taken), else that of the
 * template the model was trained with. */
static bif_status put_template(const source *s, bif_gguf *file, const char *folder, const bif_model_config *c)
{
    bif_status st = BIF_OK;
    bif_template_kind kind = BIF_TEMPLATE_PLAIN;
    bif_image_place place = BIF_IMAGE_FRONT;
    char *path = bif_path_join(folder, "chat_template.jinja"), *text = NULL, *bos = NULL, *eos = NULL;
    if (bif_exists(path)) {
        size_t size = 0;
        BIF_TRY(bif_file_read(path, SIDE_CAP, &text, &size));
        bif_gguf_put_text(file, "tokenizer.chat_template", text);
        goto done;
    }
    const json_t *value = json_object_get(s->config, "chat_template");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name != NULL && strcmp(name, "default") == 0) {
            value = json_object_get(item, "template");
            break;
        }
    }
    if (json_is_string(value)) {
        bif_gguf_put_text(file, "tokenizer.chat_template", json_string_value(value));
    } else if (*c->template_name != '\0') {
        BIF_TRY(bif_template_by_name(c->template_name, &kind));
        if (*c->image_place != '\0') {
            BIF_TRY(bif_image_place_by_name(c->image_place, &place));
        }
        bos = bif_tokenizer_piece(s->tokenizer, c->decoder.bos);
        eos = bif_tokenizer_piece(s->tokenizer, c->decoder.eos);
        text = bif_template_jinja(kind, c->has_system ? c->system : NULL, place, bos, eos);
        bif_gguf_put_text(file, "tokenizer.chat_template", text);
    }
done:
    free(path);
    free(text);
    free(bos);
    free(eos);
    return st;
}

bif_status bif_gguf_put_tokenizer(bif_gguf *file, const char *path, const bif_model_config *config, const char *pre)
{
    bif_status st = BIF_OK;
    source s = {.path = path};
    char *folder = bif_path_parent(path), *side = bif_path_join(folder, "tokenizer_config.json");
    BIF_TRY(bif_tokenizer_load(path, &s.tokenizer));
    bif_tokenizer_look(s.tokenizer, &s.view);
    if (bif_exists(side)) {
        BIF_TRY(bif_json_load_reals(side, SIDE_CAP, &s.config));
    }
    if (pre != NULL && !s.view.byte_level) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--pre names the pre-tokenizer of a byte-level tokenizer, and %s is none", path));
    }
    BIF_TRY(s.view.byte_level ? check_byte_level(&s, pre) : check_spaces(&s));
    if (s.view.particular != NULL) {
        bif_warn("%s: its token '%s' takes the spaces beside it, or must be a word of its own; llama.cpp finds it in any text", path,
                 s.view.particular);
    }
    const int64_t vocab = bif_tokenizer_vocab(s.tokenizer);
    if (vocab > config->decoder.vocab) {
        bif_warn("%s has %lld tokens, the model %lld rows; the tokens from there on are left out", path, (long long)vocab,
                 (long long)config->decoder.vocab);
    }
    bif_gguf_put_text(file, "tokenizer.ggml.model", s.view.byte_level ? "gpt2" : "llama");
    bif_gguf_put_text(file, "tokenizer.ggml.pre", s.view.byte_level ? s.pre : "default");
    BIF_TRY(put_tokens(&s, file, config->decoder.vocab));
    if (s.view.byte_level) {
        put_merges(&s, file);
    }
    BIF_TRY(put_specials(&s, file, config));
    BIF_TRY(put_template(&s, file, folder, config));
done:
    bif_tokenizer_free(s.tokenizer);
    json_decref(s.config);
    free(s.score);
    free(folder);
    free(side);
    return st;
}
