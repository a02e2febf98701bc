#include "eval/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/jsonl.h"

bool bif_judge_number(bif_span text, double *out)
{
    char digits[64];
    char *end = NULL;
    text = bif_text_strip(text);
    if (text.size == 0 || text.size >= sizeof digits) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (strchr("0123456789+-.eE", text.text[i]) == NULL || text.text[i] == '\0') {
            return false;
        }
    }
    memcpy(digits, text.text, text.size);
    digits[text.size] = '\0';
    *out = strtod(digits, &end);
    return *end == '\0' && isfinite(*out);
}

bool bif_judge_pair(bif_span review, bool strip, double out[2])
{
    size_t blank = 0, blanks = 0;
    review = strip ? bif_text_strip(review) : review;
    const char *newline = review.size > 0 ? memchr(review.text, '\n', review.size) : NULL;
    bif_span line = {review.text, newline != NULL ? (size_t)(newline - review.text) : review.size};
    line = strip ? bif_text_strip(line) : line;
    for (size_t i = 0; i < line.size; i++) {
        if (line.text[i] == ' ' || line.text[i] == ',') {
            blank = i;
            blanks++;
        }
    }
    return blanks == 1 && bif_judge_number((bif_span){line.text, blank}, &out[0]) &&
           bif_judge_number((bif_span){line.text + blank + 1, line.size - blank - 1}, &out[1]);
}

bool bif_judge_has_key(const bif_scan *scan, const char *const *keys)
{
    const bif_span whole = bif_scan_whole(scan);
    bif_scan *look = bif_scan_text("", whole.text, whole.size);
    bif_span key;
    bool more = true, has = false;
    if (bif_scan_peek(look) == '[' && (bif_scan_enter(look, '[') != BIF_OK || bif_scan_more(look, &more) != BIF_OK)) {
        more = false;
    }
    if (more && bif_scan_enter(look, '{') == BIF_OK) {
        while (!has && bif_scan_key(look, &key, &more) == BIF_OK && more && bif_scan_skip(look) == BIF_OK) {
            for (size_t i = 0; keys[i] != NULL; i++) {
                has = has || bif_span_is(key, keys[i]);
            }
        }
    }
    bif_scan_close(look);
    bif_error_clear();
    return has;
}

/* ---- replies ---- */

/* The value at a path of keys (ended by NULL), of lists always the first element; everything else is passed over. */
static bif_status value_at(bif_scan *s, const char *const *path, bif_span *out)
{
    bif_status st = BIF_OK;
    const char c = bif_scan_peek(s);
    bif_span name;
    bool first = true;
    if (c == '"' && *path == NULL) {
        return bif_scan_string(s, out);
    }
    if (c == '{' && *path != NULL) {
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
            BIF_TRY(bif_span_is(name, *path) ? value_at(s, path + 1, out) : bif_scan_skip(s));
        }
    } else if (c == '[' && *path != NULL) {
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more; first = false) {
            BIF_TRY(first && bif_scan_peek(s) == '{' ? value_at(s, path, out) : bif_scan_skip(s));
        }
    } else {
        st = bif_scan_skip(s);
    }
done:
    return st;
}

bif_status bif_judge_reply(bif_scan *scan, bif_span *content)
{
    static const char *const path[] = {"body", "choices", "message", "content", NULL};
    *content = (bif_span){0};
    return value_at(scan, path, content);
}

bif_span bif_judge_own_id(const bif_score_task *task, bif_span id)
{
    const size_t size = strlen(task->name) + 1;
    const bool ours = id.size > size && strncmp(id.text, task->name, size - 1) == 0 && id.text[size - 1] == '-';
    return ours ? (bif_span){id.text + size, id.size - size} : id;
}

/* ---- requests ---- */

typedef struct {
    json_t *context;   /* image: text */
    json_t *answers;   /* question_id: text */
    json_t *rules;     /* category: {role, prompt} */
    char *prompt;      /* of mm-vet */
} material;

/* A text, or a list of them, a line each. */
static bif_status add_lines(const char *where, const json_t *value, bif_text_buffer *out)
{
    const json_t *item = value;
    for (size_t i = 0; i < (json_is_array(value) ? json_array_size(value) : 1); i++) {
        item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_string(item)) {
            return bif_fail(BIF_ERR_DATA, "%s: \"caption\" is neither a text nor a list of texts", where);
        }
        bif_text_add(out, "\n", i > 0 ? 1 : 0);
        bif_text_add(out, json_string_value(item), json_string_length(item));
    }
    return BIF_OK;
}

/* JSONL of a key and a text into an object; a key may be a number. */
static bif_status read_texts(const char *path, const char *key, const char *value, json_t **out)
{
    bif_status st = BIF_OK;
    bif_jsonl rows = {0};
    bif_text_buffer text = {0};
    json_t *all = json_object();
    BIF_TRY(bif_jsonl_read(path, 0, &rows));
    for (int64_t i = 0; i < rows.count; i++) {
        const json_t *id = json_object_get(rows.items[i].object, key);
        char number[32];
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(id));
        if (!json_is_integer(id) && !json_is_string(id)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no \"%s\" in it", rows.items[i].where, key));
        }
        bif_text_clear(&text);
        BIF_TRY(add_lines(rows.items[i].where, json_object_get(rows.items[i].object, value), &text));
        json_object_set_new(all, json_is_string(id) ? json_string_value(id) : number, json_stringn(bif_text_span(&text).text, text.size));
    }
    *out = all;
    all = NULL;
done:
    json_decref(all);
    bif_text_free(&text);
    bif_jsonl_free(&rows);
    return st;
}

static bif_span text_of(const json_t *object, bif_span key)
{
    char *name = bif_span_copy(key);
    const json_t *value = json_object_get(object, name);
    free(name);
    return json_is_string(value) ? (bif_span){json_string_value(value), json_string_length(value)} : (bif_span){0};
}

static void add(bif_text_buffer *out, const char *text)
{
    bif_text_add(out, text, strlen(text));
}

static void add_span(bif_text_buffer *out, bif_span text)
{
    bif_text_add(out, text.text, text.size);
}

/* "[HEAD]\nTEXT\n\n" */
static void add_section(bif_text_buffer *out, const char *head, bif_span text)
{
    add(out, head);
    add(out, "\n");
    add_span(out, text);
    add(out, "\n\n");
}

/* As LLaVA's eval_gpt_review_bench.py puts it, or lmms-eval in Korean. */
static bif_status ask_llava(const bif_judge_files *files, const material *m, bool korean, const bif_score_item *item, bif_text_buffer *out)
{
    bif_status st = BIF_OK;
    const bif_judge_question *q = item->more;
    char *category = bif_format("llava_bench_%.*s", (int)item->group[0].size, item->group[0].text), *head = NULL;
    const json_t *rule = json_object_get(m->rules, category);
    const bif_span prompt = text_of(rule, (bif_span){"prompt", 6}), role = text_of(rule, (bif_span){"role", 4});
    const bif_span context = m->context != NULL ? text_of(m->context, q->image) : q->context;
    const bif_span reference = m->answers != NULL ? text_of(m->answers, item->id) : q->reference;
    if (prompt.text == NULL || role.text == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no role and prompt of category %s", files->rules, category));
    }
    if (context.text == NULL || reference.text == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "question %.*s has no %s", (int)item->id.size, item->id.text,
                         context.text == NULL ? "context; give --context" : "reference answer; give --reference-answers"));
    }
    add_section(out, korean ? "[설명]" : "[Context]", context);
    add_section(out, korean ? "[질문]" : "[Question]", q->question);
    for (int k = 1; k <= 2; k++) {
        free(head);
        head = bif_format("[%.*s %d]", (int)role.size, role.text, k);
        add_section(out, head, k == 1 ? reference : item->prediction);
        free(head);
        head = bif_format(korean ? "[%.*s %d 끝]\n\n" : "[End of %.*s %d]\n\n", (int)role.size, role.text, k);
        add(out, head);
    }
    add_section(out, "[System]", prompt);
done:
    free(head);
    free(category);
    return st;
}

/* Blanks around <AND> and <OR>. */
static void add_parted(bif_text_buffer *out, bif_span text)
{
    for (size_t i = 0; i < text.size;) {
        const size_t left = text.size - i;
        const bool either = left >= 4 && memcmp(text.text + i, "<OR>", 4) == 0;
        const size_t n = left >= 5 && memcmp(text.text + i, "<AND>", 5) == 0 ? 5 : either ? 4 : 0;
        add(out, n > 0 ? " " : "");
        bif_text_add(out, text.text + i, n > 0 ? n : 1);
        add(out, n > 0 ? " " : "");
        i += n > 0 ? n : 1;
    }
}

/* The prompt with its examples, then the row that the judge is to end. */
static void ask_mm_vet(const material *m, const bif_score_item *item, bif_text_buffer *out)
{
    const bif_judge_question *q = item->more;
    add(out, m->prompt);
    add(out, "\n");
    add_span(out, q->question);
    add(out, " | ");
    add_parted(out, q->reference);
    add(out, " | ");
    add_span(out, item->prediction);
    add(out, " | ");
}

static bif_status write_request(const bif_score_task *task, const char *system, const bif_score_item *item, bif_span content,
                                bif_writer *writer)
{
    const bool grade = task == &bif_task_mm_vet; /* a number alone */
    json_t *messages = json_array();
    if (system != NULL) {
        json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "system", "content", system));
    }
    json_array_append_new(messages, json_pack("{s:s,s:o}", "role", "user", "content", json_stringn(content.text, content.size)));
    char *id = bif_format("%s-%.*s", task->name, (int)item->id.size, item->id.text);
    json_t *row = json_pack("{s:s,s:o,s:o,s:o,s:f,s:i}", "custom_id", id, "question_id", json_stringn(item->id.text, item->id.size),
                            "category", json_stringn(item->group[0].text, item->group[0].size), "messages", messages, "temperature",
                            grade ? 0.0 : 0.2, "max_tokens", grade ? 3 : 1024);
    char *text = json_dumps(row, JSON_COMPACT);
    bif_status st = bif_writer_write(writer, text, strlen(text));
    st = st == BIF_OK ? bif_writer_write(writer, "\n", 1) : st;
    json_decref(row);
    free(text);
    free(id);
    return st;
}

bif_status bif_judge_requests(const bif_score_task *task, const bif_judge_files *files, int64_t *count)
{
    bif_status st = BIF_OK;
    bif_score_set *set = NULL;
    bif_score_counts counts;
    material m = {0};
    bif_text_buffer content = {0};
    bif_writer *writer = NULL;
    bif_span prompt = {0};
    const bool mm_vet = task == &bif_task_mm_vet;
    BIF_TRY(bif_score_open(task, files->references, files->reference_count, &set));
    BIF_TRY(bif_score_predictions(set, files->answers, &files->policy, &counts));
    if (files->context != NULL) {
        BIF_TRY(read_texts(files->context, "image", "caption", &m.context));
    }
    if (files->reference_answers != NULL) {
        BIF_TRY(read_texts(files->reference_answers, "question_id", "text", &m.answers));
    }
    if (mm_vet) {
        BIF_TRY(bif_score_bytes(set, files->rules, &prompt));
        m.prompt = bif_span_copy(prompt);
    } else {
        BIF_TRY(bif_json_load_file(files->rules, (size_t)1 << 24, &m.rules));
    }
    BIF_TRY(bif_writer_open(files->out, &writer));
    for (int64_t i = 0; i < set->count; i++) {
        bif_text_clear(&content);
        if (mm_vet) {
            ask_mm_vet(&m, &set->items[i], &content);
        } else {
            BIF_TRY(ask_llava(files, &m, task == &bif_task_k_llava_w, &set->items[i], &content));
        }
        BIF_TRY(write_request(task, files->system, &set->items[i], bif_text_span(&content), writer));
    }
    *count = set->count;
    st = bif_writer_commit(writer);
    writer = NULL;
done:
    bif_writer_abandon(writer);
    bif_text_free(&content);
    free(m.prompt);
    json_decref(m.context);
    json_decref(m.answers);
    json_decref(m.rules);
    bif_score_close(set);
    return st;
}
