#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "eval/prompt.h"
#include "eval/tsv.h"

extern const bif_prompt_task bif_prompt_vqav2, bif_prompt_okvqa, bif_prompt_textvqa, bif_prompt_vizwiz, bif_prompt_gqa, bif_prompt_pope,
    bif_prompt_mme;
extern const bif_prompt_task bif_prompt_scienceqa, bif_prompt_mmbench, bif_prompt_seed, bif_prompt_chartqa, bif_prompt_docvqa,
    bif_prompt_ocrbench;
extern const bif_prompt_task bif_prompt_refcoco, bif_prompt_caption, bif_prompt_chair, bif_prompt_easy_vqa;

const bif_prompt_task *const bif_prompt_tasks[] = {
    &bif_prompt_vqav2,
    &bif_prompt_okvqa,
    &bif_prompt_textvqa,
    &bif_prompt_vizwiz,
    &bif_prompt_gqa,
    &bif_prompt_pope,
    &bif_prompt_mme,
    &bif_prompt_scienceqa,
    &bif_prompt_mmbench,
    &bif_prompt_seed,
    &bif_prompt_chartqa,
    &bif_prompt_docvqa,
    &bif_prompt_ocrbench,
    &bif_prompt_refcoco,
    &bif_prompt_caption,
    &bif_prompt_chair,
    &bif_prompt_easy_vqa,
    NULL,
};

bif_status bif_prompt_choose(const bif_prompt_options *options, bif_prompt_used *out)
{
    char names[512] = "";
    *out = (bif_prompt_used){0};
    if (options->task == NULL) {
        return options->variant == NULL && options->suffix == NULL
                   ? BIF_OK
                   : bif_fail(BIF_ERR_USAGE,
                              "--variant and --suffix go with --task; without one the prompts stand in the file of questions");
    }
    for (int i = 0; bif_prompt_tasks[i] != NULL; i++) {
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", bif_prompt_tasks[i]->name);
        out->task = strcmp(bif_prompt_tasks[i]->name, options->task) == 0 ? bif_prompt_tasks[i] : out->task;
    }
    if (out->task == NULL) {
        return bif_fail(BIF_ERR_USAGE, "--task: '%s' is unknown; there are %s", options->task, names);
    }
    names[0] = '\0';
    for (int i = 0; i < BIF_PROMPT_VARIANTS && out->task->variant[i].name != NULL; i++) {
        const bif_prompt_variant *v = &out->task->variant[i];
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", v->name);
        if (out->variant == NULL && (options->variant == NULL || strcmp(options->variant, v->name) == 0)) {
            out->variant = v->name;
            out->suffix = options->suffix != NULL ? options->suffix : v->suffix;
        }
    }
    return out->variant != NULL
               ? BIF_OK
               : bif_fail(BIF_ERR_USAGE, "--variant: '%s' is unknown; of task %s there are %s", options->variant, out->task->name, names);
}

const char *bif_prompt_source_name(const bif_prompt_source *source)
{
    return source->file_count > 0 ? source->files[0] : source->shards[0];
}

static bif_status read_files(const bif_prompt_used *used, const bif_prompt_source *source, bif_questions *set)
{
    bif_status st = BIF_OK;
    bif_prompt_reader reader = {.set = set, .used = used, .paths = source->files, .count = source->file_count};
    if (used->task != NULL) {
        BIF_TRY(used->task->read(&reader));
        BIF_TRY(bif_questions_check(set));
    }
    for (size_t i = 0; used->task == NULL && i < source->file_count && !bif_questions_full(set); i++) {
        BIF_TRY(bif_questions_jsonl(set, source->files[i]));
    }
    if (set->count == 0) {
        BIF_TRY(used->task != NULL ? bif_fail(BIF_ERR_DATA, "%s: holds no questions of %s; %s is wanted", source->files[0],
                                              used->task->name, used->task->questions)
                                   : bif_fail(BIF_ERR_DATA, "%s: holds no questions; one JSON object a line is expected", source->files[0]));
    }
done:
    return st;
}

bif_status bif_prompt_read(const bif_prompt_used *used, const bif_prompt_source *source, bif_questions *set)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_questions_open_shards(set, source->shards, source->shard_count));
    if (source->file_count > 0) {
        BIF_TRY(read_files(used, source, set));
        BIF_TRY(source->shard_count > 0 ? bif_questions_find_pictures(set) : BIF_OK);
    } else {
        BIF_TRY(bif_questions_shards(set, source->caption_prompt));
        BIF_TRY(bif_questions_check(set));
    }
done:
    return st;
}

bool bif_prompt_is(const bif_prompt_reader *reader, const char *variant)
{
    return strcmp(reader->used->variant, variant) == 0;
}

bif_status bif_prompt_open(bif_prompt_reader *reader, const char *path, bif_scan **out)
{
    bif_questions *set = reader->set;
    const bif_status st = bif_scan_open(path, out);
    if (st == BIF_OK) {
        set->files = bif_realloc(set->files, (size_t)set->file_count + 1, sizeof *set->files);
        set->files[set->file_count++] = *out;
    }
    return st;
}

bif_status bif_prompt_object(bif_scan *s, const bif_prompt_field *fields, size_t count)
{
    bif_status st = BIF_OK;
    bif_span name;
    for (size_t i = 0; i < count; i++) {
        *fields[i].word = (bif_span){0};
    }
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        size_t i = 0;
        while (i < count && !bif_span_is(name, fields[i].name)) {
            i++;
        }
        if (i < count && fields[i].word->text != NULL) {
            BIF_TRY(bif_scan_fail(s, "the key %s stands in this object a second time", fields[i].name));
        }
        BIF_TRY(i < count && (c == '"' || c == '-' || (c >= '0' && c <= '9')) ? bif_scan_word(s, fields[i].word) : bif_scan_skip(s));
    }
done:
    return st;
}

/* Whole numbers stay numbers, as most files of questions have them. */
static const char *id_of(bif_questions *set, bif_span id)
{
    bool number = id.size > 0 && id.size < 18 && (id.size == 1 || id.text[0] != '0');
    for (size_t i = 0; i < id.size; i++) {
        number = number && id.text[i] >= '0' && id.text[i] <= '9';
    }
    return number ? bif_questions_copy(set, id.text, id.size) : bif_questions_id(set, id);
}

bif_question *bif_prompt_add(bif_prompt_reader *reader, const char *path, int64_t line, bif_span id, bif_span text)
{
    bif_questions *set = reader->set;
    bif_question *q = bif_questions_add(set, path, line);
    q->id = id_of(set, id);
    q->prompt = bif_questions_text(set, "%.*s%s", BIF_SPAN(text), reader->used->suffix);
    return q;
}

bif_question *bif_prompt_choice(bif_prompt_reader *reader, const char *path, int64_t line, bif_span id, bif_span text,
                                const bif_span *options, int64_t count)
{
    static const char *const letters[] = {"A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M",
                                          "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z"};
    bif_questions *set = reader->set;
    bif_text_buffer prompt = {0};
    const char **texts = bif_questions_take(set, (size_t)count * sizeof *texts);
    int64_t n = 0;
    bif_text_add(&prompt, text.text, text.size);
    for (; n < count && n < 26 && options[n].text != NULL; n++) {
        texts[n] = bif_questions_copy(set, options[n].text, options[n].size);
        bif_text_add(&prompt, "\n", 1);
        bif_text_add(&prompt, letters[n], 1);
        bif_text_add(&prompt, ". ", 2);
        bif_text_add(&prompt, options[n].text, options[n].size);
    }
    bif_question *q = bif_prompt_add(reader, path, line, id, bif_text_span(&prompt));
    bif_text_free(&prompt);
    q->letters = letters;
    q->options = texts;
    q->option_count = n;
    q->bare = bif_questions_copy(set, text.text, text.size);
    return q;
}

void bif_prompt_picture(bif_prompt_reader *reader, bif_question *question, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char name[4096];
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    bif_question_picture(reader->set, question, bif_questions_copy(reader->set, name, strlen(name)), NULL);
}

/* ---- tables ---- */

bool bif_prompt_is_table(const char *path)
{
    const size_t size = strlen(path);
    return size > 4 && strcmp(path + size - 4, ".tsv") == 0;
}

static const bif_score_task no_task = {.name = "table"};

typedef struct {
    bif_span index, image;
    int64_t question; /* -1: only kept because rows may refer to it */
} table_row;

/* A picture that is the index of another row, as VLMEvalKit shortens tables: base64 of a picture is longer. */
static const table_row *resolve(const table_row *rows, int64_t count, const table_row *row)
{
    for (int hops = 0; row != NULL && row->image.size <= 64 && hops < 4; hops++) {
        const table_row *found = NULL;
        for (int64_t i = 0; i < count && found == NULL; i++) {
            found = bif_span_equal(rows[i].index, row->image) ? &rows[i] : NULL;
        }
        row = found;
    }
    return row;
}

/* What LLaVA's model_vqa_mmbench.py leaves out: what pandas takes for nothing, and nan and none in any letters. */
static bool is_none(bif_span field)
{
    return bif_tsv_is_nothing(field) || (field.size == 3 && strncasecmp(field.text, "nan", 3) == 0) ||
           (field.size == 4 && strncasecmp(field.text, "none", 4) == 0);
}

bif_status bif_prompt_table(bif_prompt_reader *reader, const char *path, bool choice)
{
    bif_status st = BIF_OK;
    bif_questions *set = reader->set;
    bif_tsv table;
    table_row *rows = NULL;
    int64_t count = 0, capacity = 0;
    if (set->tables == NULL) {
        set->tables = bif_calloc(1, sizeof *set->tables);
        set->tables->task = &no_task;
    }
    BIF_TRY(bif_tsv_open(set->tables, path, &table));
    const int index = bif_tsv_column(&table, "index"), question = bif_tsv_column(&table, "question"), hint = bif_tsv_column(&table, "hint");
    const int image = bif_tsv_column(&table, "image"), first = bif_tsv_column(&table, "A");
    if (index < 0 || question < 0 || image < 0 || (choice && first < 0)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: no column %s", path,
                         index < 0      ? "index"
                         : question < 0 ? "question"
                         : image < 0    ? "image"
                                        : "A"));
    }
    for (bool more; (st = bif_tsv_row(&table, &more)) == BIF_OK && more;) {
        const bif_span *f = table.fields;
        if (count == capacity) {
            rows = bif_realloc(rows, (size_t)(capacity = 2 * capacity + 256), sizeof *rows);
        }
        rows[count] = (table_row){.index = f[index], .image = f[image], .question = bif_questions_full(set) ? -1 : set->count};
        if (rows[count++].question < 0) {
            continue;
        }
        bif_span options[26] = {0};
        bif_text_buffer text = {0};
        for (int k = 0; choice && k < 26; k++) { /* up to the first that is not there */
            const int column = bif_tsv_column(&table, (char[]){(char)('A' + k), '\0'});
            if (column < 0 || is_none(f[column])) {
                break;
            }
            options[k] = f[column];
        }
        if (choice && hint >= 0 && !is_none(f[hint])) {
            bif_text_add(&text, f[hint].text, f[hint].size);
            bif_text_add(&text, "\n", 1);
        }
        bif_text_add(&text, f[question].text, f[question].size);
        if (choice) {
            bif_prompt_choice(reader, path, table.row_line, f[index], bif_text_span(&text), options, 26);
        } else {
            bif_prompt_add(reader, path, table.row_line, f[index], bif_text_span(&text));
        }
        bif_text_free(&text);
    }
    BIF_TRY(st);
    for (int64_t i = 0; i < count; i++) {
        const table_row *with = rows[i].question < 0 ? NULL : resolve(rows, count, &rows[i]);
        if (rows[i].question < 0) {
            continue;
        }
        bif_question *q = &set->items[rows[i].question];
        if (with == NULL) {
            BIF_TRY(
                bif_fail(BIF_ERR_DATA, "%s:%lld: image is neither base64 nor the index of a row that has one", path, (long long)q->line));
        }
        bif_question_picture(set, q, bif_questions_text(set, "picture of row %.*s", BIF_SPAN(with->index)), &with->image);
    }
done:
    free(rows);
    return st;
}
