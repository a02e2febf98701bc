#include "eval/submit.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "eval/sheet.h"
#include "eval/tsv.h"
#include "eval/vqa_norm.h"

/* item->more */
typedef struct {
    bool number;   /* the id stood there as one */
    bif_span *row; /* mmbench: question and options */
} own;

/* set->own, of mmbench: which columns a row holds */
typedef struct {
    bif_span names[27];
    int count;
} columns;

static bif_status read_object(bif_score_set *set, bif_scan *s)
{
    static const char *const ids[] = {"question_id", "questionId", "id"};
    bif_status st = BIF_OK;
    bif_span name, id = {0}, image = {0};
    bool number = false;
    int best = 3;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        int i = 0;
        while (i < best && !bif_span_is(name, ids[i])) {
            i++;
        }
        if (i < best && (c == '"' || c == '-' || (c >= '0' && c <= '9'))) {
            best = i;
            number = c != '"';
            BIF_TRY(bif_scan_word(s, &id));
        } else if (bif_span_is(name, "image") && c == '"') {
            BIF_TRY(bif_scan_string(s, &image));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    id = id.text != NULL ? id : image; /* VizWiz: a picture, a question */
    if (id.text == NULL) {
        BIF_TRY(bif_scan_fail(s, "the question before has neither question_id nor image"));
    }
    if (image.text == NULL && strcmp(set->task->name, "vizwiz") == 0) {
        BIF_TRY(bif_scan_fail(s, "the question before names no image, by which answers of VizWiz are known"));
    }
    bif_score_item *item = bif_score_add(set, id);
    own *o = bif_score_take(set, sizeof *o);
    o->number = number;
    item->cluster = image;
    item->more = o;
done:
    return st;
}

static bif_status read_array(bif_score_set *set, bif_scan *s)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        BIF_TRY(read_object(set, s));
    }
done:
    return st;
}

/* One object that holds the questions in a list; *found = false if it is a question itself. */
static bif_status read_whole(bif_score_set *set, bif_scan *s, bool *found)
{
    bif_status st = BIF_OK;
    bif_span name;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const bool list = (bif_span_is(name, "questions") || bif_span_is(name, "data")) && bif_scan_peek(s) == '[';
        *found = *found || list;
        BIF_TRY(list ? read_array(set, s) : bif_scan_skip(s));
    }
done:
    return st;
}

/* The benchmark's own {"questions": [...]} or {"data": [...]}, an array, or lines. */
static bif_status read_json(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        bool whole = false;
        const int64_t from = set->count;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        if (bif_scan_peek(s) == '[') {
            BIF_TRY(read_array(set, s));
        } else {
            BIF_TRY(read_whole(set, s, &whole));
        }
        if (!whole && set->count == from) { /* lines: from the beginning again */
            BIF_TRY(bif_score_file(set, paths[i], &s));
            while (bif_scan_peek(s) == '{') {
                BIF_TRY(read_object(set, s));
            }
        }
        BIF_TRY(bif_scan_end(s));
    }
done:
    return st;
}

static bif_status read_table(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    columns *c = bif_score_take(set, sizeof *c);
    set->own = c;
    for (size_t i = 0; i < count; i++) {
        bif_tsv table;
        int at[27];
        BIF_TRY(bif_tsv_open(set, paths[i], &table));
        const int index = bif_tsv_column(&table, "index"), question = bif_tsv_column(&table, "question");
        if (index < 0 || question < 0 || bif_tsv_column(&table, "A") < 0) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: no column %s", paths[i], index < 0 ? "index" : question < 0 ? "question" : "A"));
        }
        for (int k = 0; k < 27; k++) { /* question, A to Z: those of the first table, in others they may be absent */
            const char letter[2] = {(char)('A' + k - 1), '\0'};
            const int column = k == 0 ? question : bif_tsv_column(&table, letter);
            if (i == 0 && column >= 0) {
                c->names[c->count++] = table.names[column];
            }
        }
        for (int k = 0; k < c->count; k++) {
            char *name = bif_span_copy(c->names[k]);
            at[k] = bif_tsv_column(&table, name);
            free(name);
        }
        for (bool more; (st = bif_tsv_row(&table, &more)) == BIF_OK && more;) {
            bif_score_item *item = bif_score_add(set, table.fields[index]);
            own *o = bif_score_take(set, sizeof *o);
            o->number = item->id.size > 0 && item->id.size <= 15;
            for (size_t d = 0; d < item->id.size; d++) {
                o->number = o->number && item->id.text[d] >= '0' && item->id.text[d] <= '9';
            }
            o->row = bif_score_take(set, (size_t)c->count * sizeof *o->row);
            for (int k = 0; k < c->count; k++) {
                o->row[k] = at[k] >= 0 && !bif_tsv_is_nothing(table.fields[at[k]]) ? table.fields[at[k]] : (bif_span){"", 0};
            }
            item->more = o;
        }
        BIF_TRY(st);
    }
done:
    return st;
}

/* ---- what is written ---- */

static void put_text(bif_text_buffer *out, bif_span text)
{
    json_t *value = json_stringn(text.text != NULL ? text.text : "", text.size);
    char *json = json_dumps(value, JSON_ENCODE_ANY);
    bif_text_add(out, json, strlen(json));
    free(json);
    json_decref(value);
}

static void put(bif_text_buffer *out, const char *text)
{
    bif_text_add(out, text, strlen(text));
}

static bif_status write_json(const bif_score_set *set, const char *id_name, const char *answer_name, bool normalise, bool lines,
                             const char *path)
{
    bif_status st = BIF_OK;
    bif_writer *writer = NULL;
    bif_text_buffer row = {0};
    bif_vqa_norm *norm = bif_vqa_norm_new();
    BIF_TRY(bif_writer_open(path, &writer));
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        const own *o = item->more;
        const bool image = strcmp(id_name, "image") == 0;
        bif_text_clear(&row);
        put(&row, lines ? "" : i == 0 ? "[\n" : ",\n");
        put(&row, "{\"");
        put(&row, id_name);
        put(&row, "\": ");
        if (!image && o->number) {
            bif_text_add(&row, item->id.text, item->id.size);
        } else {
            put_text(&row, image ? item->cluster : item->id);
        }
        put(&row, ", \"");
        put(&row, answer_name);
        put(&row, "\": ");
        put_text(&row, normalise && item->line > 0 ? bif_vqa_m4c(norm, item->prediction) : item->prediction);
        put(&row, lines ? "}\n" : i + 1 == set->count ? "}\n]\n" : "}");
        BIF_TRY(bif_writer_write(writer, row.text, row.size));
    }
    st = bif_writer_commit(writer);
    writer = NULL;
done:
    bif_writer_abandon(writer);
    bif_vqa_norm_free(norm);
    bif_text_free(&row);
    return st;
}

static bif_status write_table(const bif_score_set *set, const char *path)
{
    bif_status st = BIF_OK;
    const columns *c = set->own;
    bif_sheet *sheet = NULL;
    BIF_TRY(bif_sheet_open(path, &sheet));
    BIF_TRY(bif_sheet_cell(sheet, (bif_span){"index", 5}, false));
    for (int k = 0; k < c->count; k++) {
        BIF_TRY(bif_sheet_cell(sheet, c->names[k], false));
    }
    BIF_TRY(bif_sheet_cell(sheet, (bif_span){"prediction", 10}, false));
    for (int64_t i = 0; i < set->count; i++) {
        const own *o = set->items[i].more;
        BIF_TRY(bif_sheet_row(sheet));
        BIF_TRY(bif_sheet_cell(sheet, set->items[i].id, o->number));
        for (int k = 0; k < c->count; k++) {
            BIF_TRY(bif_sheet_cell(sheet, o->row[k], false));
        }
        BIF_TRY(bif_sheet_cell(sheet, set->items[i].prediction, false));
    }
    BIF_TRY(bif_sheet_row(sheet));
    st = bif_sheet_commit(sheet);
    sheet = NULL;
done:
    bif_sheet_abandon(sheet);
    return st;
}

const bif_submit_task bif_submit_tasks[] = {
    {"vqav2", "v2_OpenEnded_mscoco_test2015_questions.json, or lines with question_id",
     "[{question_id, answer}], answers normalised as by LLaVA (m4c)"},
    {"vizwiz", "test.json of VizWiz-VQA, or lines with question_id and image", "[{image, answer}], answers normalised as by LLaVA (m4c)"},
    {"docvqa", "test_v1.0.json of DocVQA (or InfographicVQA), or lines", "[{questionId, answer}]"},
    {"seed", "SEED-Bench.json, or lines with question_id", "a line {question_id, prediction} each question"},
    {"mmbench", "the table (.tsv)", "index, question, options, prediction; FILE ends with .xlsx, .tsv or .csv"},
    {0},
};

bif_status bif_submit(const char *task, const char *predictions, const char *const *questions, size_t count, const bif_score_policy *policy,
                      const char *out, int64_t *written, bif_score_counts *counts)
{
    bif_status st = BIF_OK;
    bif_score_set *set = NULL;
    const bif_submit_task *t = bif_submit_tasks;
    while (t->name != NULL && strcmp(t->name, task) != 0) {
        t++;
    }
    if (t->name == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "submit: there is no task '%s'; bifocal submit --help lists them", task));
    }
    const bool table = strcmp(t->name, "mmbench") == 0;
    const bif_score_task reader = {.name = t->name, .title = t->name, .read = table ? read_table : read_json};
    BIF_TRY(bif_score_open(&reader, questions, count, &set));
    BIF_TRY(bif_score_predictions(set, predictions, policy, counts));
    *written = set->count;
    if (table) {
        st = write_table(set, out);
    } else {
        const bool vqa = strcmp(t->name, "vqav2") == 0, vizwiz = strcmp(t->name, "vizwiz") == 0, seed = strcmp(t->name, "seed") == 0;
        st = write_json(set,
                        vizwiz        ? "image"
                        : vqa || seed ? "question_id"
                                      : "questionId",
                        seed ? "prediction" : "answer", vqa || vizwiz, seed, out);
    }
done:
    bif_score_close(set);
    return st;
}
