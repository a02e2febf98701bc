#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "eval/report.h"
#include "eval/tsv.h"

/* One line of a file of items, or of questions; spans live as long as the cursor. */
typedef struct {
    bif_span id, prediction, compared, dimension[BIF_CARD_GROUPS], group[BIF_CARD_GROUPS];
    bif_span question, picture[BIF_CARD_PICTURES];
    int64_t pictures;
    bif_span *references; /* each once; malloc'ed, only if they are wanted */
    int64_t *times, reference_count;
    double score;
    bool missing, unparsed, extra;
} line;

static bif_status read_groups(bif_scan *s, line *l)
{
    bif_status st = BIF_OK;
    bif_span name;
    int d = 0;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        if (d < BIF_CARD_GROUPS && bif_scan_peek(s) == '"') {
            l->dimension[d] = name;
            BIF_TRY(bif_scan_string(s, &l->group[d]));
            d++;
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
done:
    return st;
}

static bif_status read_references(bif_scan *s, line *l)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        bif_span text;
        int64_t at = 0;
        BIF_TRY(bif_scan_word(s, &text));
        while (at < l->reference_count && !bif_span_equal(l->references[at], text)) {
            at++;
        }
        if (at < l->reference_count) {
            l->times[at]++;
        } else if (at < 64) {
            l->references = bif_realloc(l->references, (size_t)at + 1, sizeof *l->references);
            l->times = bif_realloc(l->times, (size_t)at + 1, sizeof *l->times);
            l->references[at] = text;
            l->times[at] = 1;
            l->reference_count++;
        }
    }
    BIF_TRY(st);
    for (int64_t i = 1; i < l->reference_count; i++) { /* few: by insertion, so that equal ones keep their order */
        for (int64_t k = i; k > 0 && l->times[k] > l->times[k - 1]; k--) {
            const bif_span text = l->references[k];
            const int64_t times = l->times[k];
            l->references[k] = l->references[k - 1];
            l->times[k] = l->times[k - 1];
            l->references[k - 1] = text;
            l->times[k - 1] = times;
        }
    }
done:
    return st;
}

static bif_status read_item(bif_scan *s, bool details, line *l)
{
    bif_status st = BIF_OK;
    bif_span name;
    *l = (line){0};
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        const bool text = c == '"', truth = c == 't' || c == 'f';
        if (bif_span_is(name, "question_id")) {
            BIF_TRY(bif_scan_word(s, &l->id));
        } else if (bif_span_is(name, "score") && !text) {
            BIF_TRY(bif_scan_f64(s, &l->score));
        } else if (bif_span_is(name, "groups") && c == '{') {
            BIF_TRY(read_groups(s, l));
        } else if (bif_span_is(name, "extra") && truth) {
            BIF_TRY(bif_scan_bool(s, &l->extra));
        } else if (details && bif_span_is(name, "prediction") && text) {
            BIF_TRY(bif_scan_string(s, &l->prediction));
        } else if (details && bif_span_is(name, "compared") && text) {
            BIF_TRY(bif_scan_string(s, &l->compared));
        } else if (details && bif_span_is(name, "references") && c == '[') {
            BIF_TRY(read_references(s, l));
        } else if (details && bif_span_is(name, "missing") && truth) {
            BIF_TRY(bif_scan_bool(s, &l->missing));
        } else if (details && bif_span_is(name, "unparsed") && truth) {
            BIF_TRY(bif_scan_bool(s, &l->unparsed));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (l->id.text == NULL) {
        BIF_TRY(bif_scan_fail(s, "the item before has no question_id"));
    }
done:
    return st;
}

static bif_status open_file(bif_cards *cards, const char *path, bif_scan **out)
{
    const bif_status st = bif_scan_open(path, out);
    if (st == BIF_OK) {
        cards->files = bif_realloc(cards->files, cards->file_count + 1, sizeof *cards->files);
        cards->files[cards->file_count++] = *out;
    }
    return st;
}

/* A name that another file gives: as it is, else beside that file. malloc'ed. */
static char *path_beside(const char *file, const char *name)
{
    if (bif_exists(name)) {
        return bif_strdup(name);
    }
    char *folder = bif_path_parent(file), *path = bif_path_join(folder, bif_path_base(name));
    free(folder);
    return path;
}

/* ---- the draw ---- */

typedef struct {
    bif_span id;
    uint64_t key;
    bif_span group;
    int64_t rank; /* among those of its kind and group */
    bool right;
    int kind;
} entry;

typedef struct {
    entry *items;
    size_t count, capacity;
} entries;

static uint64_t key_of(bif_span id)
{
    uint32_t word[4];
    bif_philox(0, BIF_RNG_SHOWN, bif_hash_bytes(id.text, id.size), 0, word);
    return (uint64_t)word[0] << 32 | word[1];
}

static int compare_spans(bif_span a, bif_span b)
{
    const size_t size = a.size < b.size ? a.size : b.size;
    const int order = size > 0 ? memcmp(a.text, b.text, size) : 0;
    return order != 0 ? order : a.size < b.size ? -1 : a.size > b.size;
}

static int by_key(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key ? 1 : compare_spans(x->id, y->id);
}

static int by_group(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const int order = x->kind != y->kind ? (x->kind < y->kind ? -1 : 1) : compare_spans(x->group, y->group);
    return order != 0 ? order : by_key(a, b);
}

static int by_rank(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->kind != y->kind ? (x->kind < y->kind ? -1 : 1) : x->rank != y->rank ? (x->rank < y->rank ? -1 : 1) : by_key(a, b);
}

/* Ids and scores of a file of items, in the order of keys. */
static bif_status read_entries(bif_cards *cards, const char *path, entries *out)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    BIF_TRY(open_file(cards, path, &s));
    while (bif_scan_peek(s) == '{') {
        line l;
        BIF_TRY(read_item(s, false, &l));
        if (l.extra) {
            continue;
        }
        if (out->count == out->capacity) {
            out->capacity = out->capacity > 0 ? 2 * out->capacity : 1024;
            out->items = bif_realloc(out->items, out->capacity, sizeof *out->items);
        }
        out->items[out->count++] = (entry){.id = l.id, .key = key_of(l.id), .group = l.group[0], .right = l.score >= 0.5};
    }
    BIF_TRY(bif_scan_end(s));
    if (out->count > 0) {
        qsort(out->items, out->count, sizeof *out->items, by_key);
    }
done:
    return st;
}

static const entry *find_entry(const entries *of, const entry *like)
{
    return of->count > 0 ? bsearch(like, of->items, of->count, sizeof *like, by_key) : NULL;
}

static int by_card(const void *a, const void *b)
{
    const bif_card *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key ? 1 : compare_spans(x->id, y->id);
}

static bif_card *find_card(const bif_cards *cards, bif_span id)
{
    const bif_card like = {.id = id, .key = key_of(id)};
    return cards->count > 0 ? bsearch(&like, cards->items, cards->count, sizeof like, by_card) : NULL;
}

/* Chooses among the questions of the first file, sorted by key; all: one a column, empty where it has none. */
static void choose(const entries *first, const entries *all, size_t columns, int64_t most, bif_cards *out)
{
    int64_t taken[BIF_CARD_KINDS] = {0};
    for (size_t i = 0; i < first->count; i++) {
        entry *e = &first->items[i];
        bool right = e->right, wrong = !e->right;
        for (size_t c = 0; c < columns; c++) {
            const entry *other = find_entry(&all[c], e);
            right = right && (other == NULL || other->right);
            wrong = wrong && (other == NULL || !other->right);
        }
        e->kind = right ? BIF_CARD_RIGHT : wrong ? BIF_CARD_WRONG : BIF_CARD_DIFFER;
        out->of_kind[e->kind]++;
    }
    entry *order = bif_malloc((first->count + 1) * sizeof *order);
    memcpy(order, first->items, first->count * sizeof *order);
    qsort(order, first->count, sizeof *order, by_group);
    for (size_t i = 0; i < first->count; i++) {
        order[i].rank = i > 0 && order[i].kind == order[i - 1].kind && bif_span_equal(order[i].group, order[i - 1].group)
                            ? order[i - 1].rank + 1
                            : 0;
    }
    qsort(order, first->count, sizeof *order, by_rank);
    for (size_t i = 0; i < first->count; i++) {
        if (taken[order[i].kind]++ < most) {
            out->items = bif_realloc(out->items, out->count + 1, sizeof *out->items);
            out->items[out->count++] = (bif_card){
                .id = order[i].id, .key = order[i].key, .kind = order[i].kind, .answers = bif_calloc(columns, sizeof(bif_card_answer))};
        }
    }
    qsort(out->items, out->count, sizeof *out->items, by_card);
    free(order);
}

static bif_status fill_answers(bif_cards *cards, const char *path, size_t column)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    line l = {0};
    BIF_TRY(open_file(cards, path, &s));
    while (bif_scan_peek(s) == '{') {
        BIF_TRY(read_item(s, true, &l));
        bif_card *card = find_card(cards, l.id);
        if (card != NULL && !card->answers[column].there) {
            card->answers[column] = (bif_card_answer){true, l.missing, l.unparsed, l.prediction, l.compared, l.score};
            memcpy(card->dimension, l.dimension, sizeof card->dimension);
            memcpy(card->group, l.group, sizeof card->group);
            if (card->references == NULL) {
                card->references = l.references;
                card->reference_times = l.times;
                card->reference_count = l.reference_count;
                l = (line){0};
            }
        }
        free(l.references);
        free(l.times);
        l = (line){0};
    }
    st = bif_scan_end(s);
done:
    free(l.references);
    free(l.times);
    return st;
}

/* ---- what was asked about which picture ---- */

static bif_status read_question(bif_scan *s, bool answers, line *l)
{
    static const char *const ids[] = {"question_id", "questionId", "id", "index"};
    static const char *const texts[] = {"question", "prompt", "text"};
    bif_status st = BIF_OK;
    bif_span name;
    int best_id = 4, best_text = 3;
    *l = (line){0};
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        int i = 0, t = 0;
        while (i < best_id && !bif_span_is(name, ids[i])) {
            i++;
        }
        while (t < best_text && !bif_span_is(name, texts[t])) {
            t++;
        }
        if (i < best_id && (c == '"' || c == '-' || (c >= '0' && c <= '9'))) {
            best_id = i;
            BIF_TRY(bif_scan_word(s, &l->id));
        } else if (t < best_text && c == '"' && !(answers && t == 2)) { /* among answers "text" is the answer */
            best_text = t;
            BIF_TRY(bif_scan_string(s, &l->question));
        } else if (bif_span_is(name, "image") && c == '"') {
            l->pictures = 1;
            BIF_TRY(bif_scan_string(s, &l->picture[0]));
        } else if (bif_span_is(name, "image") && c == '[') {
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool next; (st = bif_scan_more(s, &next)) == BIF_OK && next;) {
                bif_span file;
                BIF_TRY(bif_scan_string(s, &file));
                if (l->pictures < BIF_CARD_PICTURES) {
                    l->picture[l->pictures++] = file;
                }
            }
            BIF_TRY(st);
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
done:
    return st;
}

/* A row's picture; a short number stands for that of another row. */
typedef struct {
    bif_span index, image;
} embedded;

static bif_status fill_from_table(bif_cards *cards, const char *path)
{
    static const bif_score_task none = {.name = "report"};
    bif_status st = BIF_OK;
    bif_tsv table;
    embedded *rows = NULL;
    size_t count = 0, capacity = 0;
    if (cards->tables == NULL) {
        cards->tables = bif_calloc(1, sizeof *cards->tables);
        cards->tables->task = &none;
    }
    BIF_TRY(bif_tsv_open(cards->tables, path, &table));
    const int index = bif_tsv_column(&table, "index"), question = bif_tsv_column(&table, "question"),
              image = bif_tsv_column(&table, "image");
    if (index < 0 || question < 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: neither JSON nor a table with the columns index and question", path));
    }
    for (bool more; (st = bif_tsv_row(&table, &more)) == BIF_OK && more;) {
        if (count == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 1024;
            rows = bif_realloc(rows, capacity, sizeof *rows);
        }
        rows[count++] = (embedded){table.fields[index], image >= 0 ? table.fields[image] : (bif_span){"", 0}};
        bif_card *card = find_card(cards, table.fields[index]);
        if (card == NULL) {
            continue;
        }
        card->question = card->question.size == 0 ? table.fields[question] : card->question;
        if (card->pictures == 0 && rows[count - 1].image.size > 0) {
            card->picture[0] = rows[count - 1].image;
            card->pictures = 1;
            card->embedded = true;
        }
    }
    BIF_TRY(st);
    for (size_t i = 0; i < cards->count; i++) {
        bif_card *card = &cards->items[i];
        for (size_t k = 0; k < count && card->embedded && card->picture[0].size < 16; k++) {
            if (bif_span_equal(rows[k].index, card->picture[0])) {
                card->picture[0] = rows[k].image;
                break;
            }
        }
    }
done:
    free(rows);
    return st;
}

/* JSONL or a JSON array of objects, or a table. Predictions (`answers`) of any other form say nothing. */
static bif_status fill_questions(bif_cards *cards, const char *path, bool answers)
{
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    line l;
    BIF_TRY(open_file(cards, path, &s));
    const bool array = bif_scan_peek(s) == '[';
    if (!answers && !array && bif_scan_peek(s) != '{') {
        return fill_from_table(cards, path);
    }
    if (array) {
        BIF_TRY(bif_scan_enter(s, '['));
    }
    for (bool more = true;;) {
        if (array) {
            BIF_TRY(bif_scan_more(s, &more));
        }
        if (!more || bif_scan_peek(s) != '{') {
            break;
        }
        BIF_TRY(read_question(s, answers, &l));
        bif_card *card = l.id.text != NULL ? find_card(cards, l.id) : NULL;
        if (card != NULL && card->question.size == 0) {
            card->question = l.question;
        }
        if (card != NULL && card->pictures == 0) {
            memcpy(card->picture, l.picture, sizeof card->picture);
            card->pictures = l.pictures;
        }
    }
done:
    return st;
}

bif_status bif_cards_draw(const bif_score_report *report, size_t row, int64_t most, const char *const *questions, size_t count,
                          bif_cards *out)
{
    bif_status st = BIF_OK;
    const size_t columns = report->column_count;
    entries *all = bif_calloc(columns, sizeof *all), *first = NULL;
    *out = (bif_cards){0};
    for (int pass = 0; pass < 3; pass++) { /* ids and scores; the chosen ones' texts; what their predictions' files say of the questions */
        for (size_t c = 0; c < columns; c++) {
            const bif_report_score *s = bif_report_at(report, row, c);
            const char *name = s == NULL ? NULL : pass == 2 ? s->predictions : s->items;
            if (name == NULL || (pass > 0 && first == NULL)) {
                continue;
            }
            char *path = path_beside(s->path, name);
            if (pass == 2 && !bif_exists(path)) {
                free(path);
                continue;
            }
            st = pass == 0 ? read_entries(out, path, &all[c]) : pass == 1 ? fill_answers(out, path, c) : fill_questions(out, path, true);
            free(path);
            BIF_TRY(st);
            first = pass == 0 && first == NULL && all[c].count > 0 ? &all[c] : first;
        }
        if (pass == 0 && first != NULL) {
            choose(first, all, columns, most, out);
        }
        for (size_t i = 0; pass == 1 && first != NULL && i < count; i++) {
            BIF_TRY(fill_questions(out, questions[i], false));
        }
    }
done:
    for (size_t c = 0; c < columns; c++) {
        free(all[c].items);
    }
    free(all);
    if (st != BIF_OK) {
        bif_cards_free(out);
    }
    return st;
}

void bif_cards_free(bif_cards *cards)
{
    for (size_t i = 0; i < cards->count; i++) {
        free(cards->items[i].references);
        free(cards->items[i].reference_times);
        free(cards->items[i].answers);
    }
    for (size_t i = 0; i < cards->file_count; i++) {
        bif_scan_close(cards->files[i]);
    }
    bif_score_close(cards->tables);
    free(cards->items);
    free(cards->files);
    *cards = (bif_cards){0};
}
