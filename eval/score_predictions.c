#include <stdio.h>
#include <string.h>

#include "eval/tsv.h"

static const char *const id_names[] = {"question_id", "questionId", "id", "index", "image_id", "image"};
static const char *const text_names[] = {"prediction", "text", "answer", "caption"};
enum { IDS = sizeof id_names / sizeof *id_names, TEXTS = sizeof text_names / sizeof *text_names };

struct bif_score_reader {
    bif_score_set *set;
    const bif_score_policy *policy;
    bif_score_counts *counts;
    const char *path;
    bif_text_buffer name;
    char unknown[160], duplicate[160]; /* the first of them */
};
typedef struct bif_score_reader reader;

static void keep(reader *r, const char *path, int64_t line, bif_span id, bif_span prompt, bif_span prediction)
{
    bif_score_item *item = bif_score_find(r->set, id);
    if (item == NULL && r->set->task->name_of_row != NULL) {
        bif_text_clear(&r->name);
        item = r->set->task->name_of_row(id, prompt, &r->name) ? bif_score_find_other(r->set, bif_text_span(&r->name)) : NULL;
    }
    r->counts->read++;
    if (item == NULL) {
        if (r->counts->unknown++ == 0) {
            snprintf(r->unknown, sizeof r->unknown, "%s:%lld: %.*s", path, (long long)line, (int)(id.size < 60 ? id.size : 60), id.text);
        }
        return;
    }
    if (item->line > 0 && r->counts->duplicates++ == 0) {
        snprintf(r->duplicate, sizeof r->duplicate, "%s:%lld: %.*s, before in line %lld", path, (long long)line,
                 (int)(id.size < 60 ? id.size : 60), id.text, (long long)item->line);
    }
    item->prediction = prediction;
    item->line = line;
}

void bif_score_answer(bif_score_reader *r, const char *path, int64_t line, bif_span id, bif_span prediction)
{
    keep(r, path, line, id, (bif_span){"", 0}, prediction);
}

/* Of the keys in order of preference the place of `name`; `count` when it is none. */
static int rank_of(const char *const *names, int count, bif_span name)
{
    int i = 0;
    while (i < count && !bif_span_is(name, names[i])) {
        i++;
    }
    return i;
}

/* One object: a row with an id and a prediction; *row = false when it has no key of an id. */
static bif_status read_row(reader *r, bif_scan *s, bool *row)
{
    bif_status st = BIF_OK;
    bif_span name, id = {0}, text = {0}, prompt = {"", 0};
    int best_id = IDS, best_text = TEXTS;
    bool given = true; /* what stands under the preferred key is a text or a number */
    unsigned seen = 0;
    const int64_t line = bif_scan_line(s);
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const bool image = r->set->task->by_image && bif_span_is(name, "image_id");
        const int i = image ? -1 : rank_of(id_names, IDS, name), t = rank_of(text_names, TEXTS, name);
        const char c = bif_scan_peek(s);
        const int key = image ? IDS + TEXTS + 1 : i < IDS ? i : t < TEXTS ? IDS + t : bif_span_is(name, "prompt") ? IDS + TEXTS : 31;
        if (key < 31 && (seen >> key & 1) != 0) {
            BIF_TRY(bif_scan_fail(s, "the key %.*s stands in this object a second time", (int)name.size, name.text));
        }
        seen |= 1u << key;
        if (i < IDS && i <= best_id && (c == '"' || c == '-' || (c >= '0' && c <= '9'))) {
            best_id = i;
            BIF_TRY(bif_scan_word(s, &id));
        } else if (t < TEXTS && t <= best_text && (c == '"' || c == '-' || (c >= '0' && c <= '9'))) {
            best_text = t; /* a number is an answer too */
            given = true;
            BIF_TRY(bif_scan_word(s, &text));
        } else if (t < TEXTS && t < best_text) { /* null beside an answer, which may well be the right one */
            best_text = t;
            given = false;
            BIF_TRY(bif_scan_skip(s));
        } else if (bif_span_is(name, "prompt") && c == '"') {
            BIF_TRY(bif_scan_string(s, &prompt));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    *row = best_id < IDS;
    if (*row && best_text == TEXTS) {
        st = bif_fail(BIF_ERR_DATA, "%s:%lld: no prediction beside the id %.*s; one of prediction, text, answer, caption is wanted", r->path,
                      (long long)line, (int)id.size, id.text);
    } else if (*row && !given) {
        st = bif_fail(BIF_ERR_DATA, "%s:%lld: %s of the id %.*s is neither a text nor a number; leave the line out, and say what becomes of questions without an answer",
                      r->path, (long long)line, text_names[best_text], (int)id.size, id.text);
    } else if (*row) {
        keep(r, r->path, line, id, prompt, text);
    }
done:
    return st;
}

/* {"id": "prediction", ...} */
static bif_status read_map(reader *r, bif_scan *s)
{
    bif_status st = BIF_OK;
    bif_span id, text;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &id, &more)) == BIF_OK && more;) {
        const int64_t line = bif_scan_line(s);
        BIF_TRY(bif_scan_word(s, &text));
        keep(r, r->path, line, id, (bif_span){"", 0}, text);
    }
    BIF_TRY(st);
    st = bif_scan_end(s);
done:
    return st;
}

/* A table with a column of ids and one of predictions, as VLMEvalKit writes; its `answer` is the right one, which would score 100. */
static bif_status read_table(reader *r)
{
    bif_status st = BIF_OK;
    bif_tsv table;
    int id = -1, text = -1;
    BIF_TRY(bif_tsv_open(r->set, r->path, &table));
    for (int i = 0; i < IDS && id < 0; i++) {
        id = bif_tsv_column(&table, id_names[i]);
    }
    for (int i = 0; i < TEXTS && text < 0; i++) {
        text = strcmp(text_names[i], "answer") == 0 ? -1 : bif_tsv_column(&table, text_names[i]);
    }
    if (id < 0 || text < 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: no column %s", r->path, id < 0 ? "index (or question_id)" : "prediction"));
    }
    for (bool more; (st = bif_tsv_row(&table, &more)) == BIF_OK && more;) {
        keep(r, r->path, table.row_line, table.fields[id], (bif_span){"", 0}, table.fields[text]);
    }
done:
    return st;
}

static bif_status read_all(reader *r)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    bool row = true, own = false;
    if (r->set->task->predict != NULL) {
        BIF_TRY(r->set->task->predict(r->set, r, r->path, &own));
    }
    const size_t size = strlen(r->path);
    if (own || (size > 4 && strcmp(r->path + size - 4, ".tsv") == 0)) {
        st = own ? BIF_OK : read_table(r);
        goto done;
    }
    BIF_TRY(bif_score_file(r->set, r->path, &s));
    if (bif_scan_peek(s) == '[') {
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
            bif_scan_peek(s);
            BIF_TRY(read_row(r, s, &row));
            if (!row) {
                BIF_TRY(bif_scan_fail(s, "no question_id in this object"));
            }
        }
        BIF_TRY(st);
        BIF_TRY(bif_scan_end(s));
        goto done;
    }
    for (int64_t k = 0; bif_scan_peek(s) == '{'; k++) {
        BIF_TRY(read_row(r, s, &row));
        if (!row && k == 0 && bif_scan_peek(s) == '\0') {
            BIF_TRY(bif_score_file(r->set, r->path, &s));
            BIF_TRY(read_map(r, s));
            goto done;
        }
        if (!row) {
            BIF_TRY(bif_scan_fail(s, "the object before has no question_id"));
        }
    }
    BIF_TRY(bif_scan_end(s));
done:
    return st;
}

/* Items without a prediction leave the set. */
static bif_status drop_missing(bif_score_set *set)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < set->count; i++) {
        if (set->items[i].line > 0) {
            set->items[kept++] = set->items[i];
        }
    }
    set->count = kept;
    return bif_score_prepare(set);
}

bif_status bif_score_predictions(bif_score_set *set, const char *path, const bif_score_policy *policy, bif_score_counts *counts)
{
    bif_status st = BIF_OK;
    reader r = {.set = set, .policy = policy, .counts = counts, .path = path};
    const bif_score_item *first = NULL;
    *counts = (bif_score_counts){0};
    bool again = false;
    for (int64_t i = 0; i < set->count; i++) {
        again = again || set->items[i].line > 0;
        set->items[i].prediction = (bif_span){"", 0};
        set->items[i].line = 0;
    }
    BIF_TRY(again ? bif_score_prepare(set) : BIF_OK); /* whose turn it is among those that share a name */
    BIF_TRY(read_all(&r));
    for (int64_t i = set->count - 1; i >= 0; i--) {
        if (set->items[i].line == 0 && !set->items[i].optional) {
            first = &set->items[i];
            counts->missing++;
        }
    }
    if (counts->unknown > 0 && !policy->allow_unknown) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%lld predictions are of questions that the references do not have, first %s; are these the references of "
                         "the same split? --allow-unknown leaves them out", (long long)counts->unknown, r.unknown));
    }
    if (counts->duplicates > 0 && !policy->allow_duplicates) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%lld questions are answered again, first %s; --allow-duplicates takes the last", (long long)counts->duplicates,
                         r.duplicate));
    }
    if (counts->missing > 0 && policy->missing == BIF_MISSING_ERROR) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %lld of %lld questions have no prediction, first %.*s; %s", path, (long long)counts->missing, (long long)set->count, (int)first->id.size, first->id.text,
                         policy->remedy != NULL ? policy->remedy : "--missing wrong counts them as wrong, --missing skip leaves them out"));
    }
    if (policy->missing == BIF_MISSING_SKIP) {
        BIF_TRY(counts->missing == set->count ? bif_fail(BIF_ERR_DATA, "%s: no prediction of any question", path) : drop_missing(set));
    }
done:
    bif_text_free(&r.name);
    return st;
}
