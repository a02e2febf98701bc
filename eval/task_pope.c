/* POPE: is there an OBJECT in the image? References are the benchmark's files, one a split (JSON lines, or one JSON array as its GQA and
 * A-OKVQA splits are), whose question_id begin at 1 in each: with one file the id of a question is its question_id, with several
 * SPLIT/question_id. LLaVA numbers the questions of all splits through in a file of its own (question_id, image, text, category, no label):
 * given among the references its ids are taken, each row joined to the next question of its split, which must be the same one.
 *
 * Two versions were published under one name. The first, which LLaVA's numbers use, has 2,910 + 3,000 + 3,000 questions and in 144, 44 and
 * 58 of them "imange"; the second has three times 3,000 and no such word. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "eval/yes_no.h"

typedef struct {
    bif_span id, image, text, category, label;
    int64_t line;
} row;

typedef struct {
    row *rows; /* of LLaVA's file */
    int64_t count, capacity;
    const char *path;
} through;

enum { LABEL = 0, ANSWER = 1 }; /* item->value */

static bif_status read_row(bif_scan *s, row *out)
{
    bif_status st = BIF_OK;
    bif_span name;
    *out = (row){.line = bif_scan_line(s)};
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const bool text = bif_scan_peek(s) == '"';
        if (bif_span_is(name, "question_id")) {
            BIF_TRY(bif_scan_word(s, &out->id));
        } else if ((bif_span_is(name, "image") || bif_span_is(name, "image_source")) && text) {
            BIF_TRY(bif_scan_string(s, &out->image));
        } else if ((bif_span_is(name, "text") || bif_span_is(name, "question")) && text) {
            BIF_TRY(bif_scan_string(s, &out->text));
        } else if (bif_span_is(name, "category") && text) {
            BIF_TRY(bif_scan_string(s, &out->category));
        } else if ((bif_span_is(name, "label") || bif_span_is(name, "answer")) && text) {
            BIF_TRY(bif_scan_string(s, &out->label));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (out->id.text == NULL || (out->label.text == NULL && out->category.text == NULL)) {
        BIF_TRY(bif_scan_fail(s, "the question before has no %s", out->id.text == NULL ? "question_id" : "label"));
    }
    if (out->label.text != NULL && !((out->label.size == 3 && strncasecmp(out->label.text, "yes", 3) == 0) ||
                                     (out->label.size == 2 && strncasecmp(out->label.text, "no", 2) == 0))) {
        BIF_TRY(bif_scan_fail(s, "the label before is '%.*s', neither yes nor no", (int)(out->label.size < 40 ? out->label.size : 40),
                              out->label.text));
    }
done:
    return st;
}

bif_span bif_pope_split(const char *path)
{
    static const char *const known[] = {"random", "popular", "adversarial"};
    const char *base = bif_path_base(path);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strstr(base, known[i]) != NULL) {
            return (bif_span){known[i], strlen(known[i])};
        }
    }
    const char *end = strrchr(base, '.');
    return (bif_span){base, end != NULL && end > base ? (size_t)(end - base) : strlen(base)};
}

static bif_status take(bif_score_set *set, through *all, const row *r, const char *path, bif_span split, bool several)
{
    if (r->label.text == NULL) {
        if (all->path != NULL && all->path != path) {
            return bif_fail(BIF_ERR_DATA, "%s:%lld: no label, as in %s; one file of questions without labels is enough", path,
                            (long long)r->line, all->path);
        }
        all->path = path;
        if (all->count == all->capacity) {
            all->capacity = 2 * all->capacity + 4096;
            row *grown = bif_score_take(set, (size_t)all->capacity * sizeof *grown);
            if (all->count > 0) {
                memcpy(grown, all->rows, (size_t)all->count * sizeof *grown);
            }
            all->rows = grown;
        }
        all->rows[all->count++] = *r;
        return BIF_OK;
    }
    const bif_span group = r->category.size > 0 ? r->category : split;
    bif_score_item *item = bif_score_add(
        set, several || r->category.size > 0 ? bif_score_text(set, "%.*s/%.*s", (int)group.size, group.text, (int)r->id.size, r->id.text)
                                             : r->id);
    bif_span *answer = bif_score_take(set, 2 * sizeof *answer);
    answer[0] = r->label;
    answer[1] = r->text; /* for the join */
    item->cluster = r->image;
    item->group[0] = group;
    item->answers = answer;
    item->answer_count = 1;
    return BIF_OK;
}

static bif_span first_line(bif_span text)
{
    const char *end = text.size > 0 ? memchr(text.text, '\n', text.size) : NULL;
    return (bif_span){text.text, end != NULL ? (size_t)(end - text.text) : text.size};
}

/* The ids of LLaVA's file for those of the splits. */
static bif_status join(bif_score_set *set, const through *all)
{
    int64_t next[8] = {0}, used = 0;
    bif_span name[8];
    int names = 0;
    for (int64_t i = 0; i < all->count; i++) {
        const row *r = &all->rows[i];
        int k = 0;
        while (k < names && !bif_span_equal(name[k], r->category)) {
            k++;
        }
        if (k == 8) {
            return bif_fail(BIF_ERR_DATA, "%s:%lld: more than 8 categories", all->path, (long long)r->line);
        }
        name[k] = r->category;
        names = k < names ? names : k + 1;
        while (next[k] < set->count && !bif_span_equal(set->items[next[k]].group[0], r->category)) {
            next[k]++;
        }
        bif_score_item *item = next[k] < set->count ? &set->items[next[k]++] : NULL;
        if (item == NULL || !bif_span_equal(item->cluster, r->image) ||
            !bif_span_equal(first_line(r->text), first_line(item->answers[1]))) {
            return bif_fail(BIF_ERR_DATA, "%s:%lld: %s %.*s; this file and the labels are not of the same version of POPE", all->path,
                            (long long)r->line,
                            item == NULL ? "there is no label left for a question of" : "not the question that comes next in the labels of",
                            (int)r->category.size, r->category.text);
        }
        item->id = r->id;
        used++;
    }
    return all->count > 0 && used != set->count
               ? bif_fail(BIF_ERR_DATA, "%s: %lld questions, but %lld labels; are these of the same version of POPE?", all->path,
                          (long long)used, (long long)set->count)
               : BIF_OK;
}

static bool holds(bif_span text, const char *word)
{
    return text.size > 0 && memmem(text.text, text.size, word, strlen(word)) != NULL;
}

static void recognise(bif_score_set *set)
{
    static const char *const split[] = {"random", "popular", "adversarial"};
    static const int64_t first[3][2] = {{2910, 144}, {3000, 44}, {3000, 58}};
    int64_t count[3] = {0}, typos[3] = {0}, other = 0;
    for (int64_t i = 0; i < set->count; i++) {
        int k = 0;
        while (k < 3 && !bif_span_is(set->items[i].group[0], split[k])) {
            k++;
        }
        if (k == 3) {
            other++;
        } else {
            count[k]++;
            typos[k] += holds(set->items[i].answers[1], "imange");
        }
    }
    bool is_first = other == 0, is_second = other == 0;
    for (int k = 0; k < 3; k++) {
        is_first = is_first && (count[k] == 0 || (count[k] == first[k][0] && typos[k] == first[k][1]));
        is_second = is_second && (count[k] == 0 || (count[k] == 3000 && typos[k] == 0));
    }
    bif_score_note(set, "POPE: random %lld, popular %lld, adversarial %lld questions, \"imange\" in %lld: %s", (long long)count[0],
                   (long long)count[1], (long long)count[2], (long long)(typos[0] + typos[1] + typos[2]),
                   is_first    ? "the first version (8,910 questions, commit e3e3926), which LLaVA's numbers use"
                   : is_second ? "the second version (9,000 questions); LLaVA's numbers use the first, of 8,910"
                               : "not one of the two published versions");
}

static bif_status read_pope(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    through all = {0};
    row r;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        const bif_span split = bif_pope_split(paths[i]);
        BIF_TRY(bif_score_file(set, paths[i], &s));
        if (bif_scan_peek(s) == '[') {
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
                bif_scan_peek(s);
                BIF_TRY(read_row(s, &r));
                BIF_TRY(take(set, &all, &r, paths[i], split, count > 1));
            }
            BIF_TRY(st);
        } else {
            while (bif_scan_peek(s) == '{') {
                BIF_TRY(read_row(s, &r));
                BIF_TRY(take(set, &all, &r, paths[i], split, count > 1));
            }
        }
        BIF_TRY(bif_scan_end(s));
    }
    BIF_TRY(join(set, &all));
    recognise(set);
done:
    return st;
}

static bif_status score_pope(bif_score_set *set, bif_norm norm)
{
    bif_yes_no_parser parser;
    bif_yes_no_open(&parser);
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const bif_yes_no answer = norm == BIF_NORM_LMMS         ? bif_yes_no_exact(&parser, item->prediction)
                                  : norm == BIF_NORM_VLMEVALKIT ? bif_yes_no_words(&parser, item->prediction)
                                                                : bif_yes_no_pope(item->prediction);
        const char *name = bif_yes_no_name(answer);
        item->value[LABEL] = item->answers[0].size == 3 ? BIF_YES : BIF_NO;
        item->value[ANSWER] = item->line > 0 ? answer : BIF_NEITHER; /* what is not there is no yes */
        item->score = item->value[ANSWER] == item->value[LABEL];
        item->unparsed = answer == BIF_NEITHER;
        item->parsed = (bif_span){name, strlen(name)};
    }
    bif_yes_no_close(&parser);
    return BIF_OK;
}

typedef struct {
    int64_t label[2], table[2][3]; /* label; label, answer + 1 */
} counts;

static double ratio(double a, double b, bool zero)
{
    return b > 0.0 ? a / b : zero ? 0.0 : NAN;
}

/* zero: a ratio of nothing is 0, as in the harnesses; POPE's own code ends there. */
static double f1_of(const counts *c, bif_norm norm, double *precision, double *recall)
{
    const bool zero = norm != BIF_NORM_OFFICIAL;
    const double tp = (double)c->table[1][2], fp = (double)c->table[0][2];
    const double positives =
        tp + (double)c->table[1][1] + (norm == BIF_NORM_LMMS ? 0.0 : (double)c->table[1][0]); /* lmms-eval: neither is no miss */
    *precision = ratio(tp, tp + fp, zero);
    *recall = ratio(tp, positives, zero);
    return ratio(2.0 * *precision * *recall, *precision + *recall, zero || *precision + *recall == 0.0);
}

static void add_all(const counts *c, bif_norm norm, const char *slash, bif_span name, bif_metric_list *out)
{
    const int64_t n = c->label[0] + c->label[1];
    double precision = 0.0, recall = 0.0;
    const double f1 = f1_of(c, norm, &precision, &recall);
    const int64_t yes = norm == BIF_NORM_LMMS ? c->label[1] : c->table[0][2] + c->table[1][2]; /* lmms-eval counts the labels */
    const int width = (int)name.size;
    bif_metric_add(out, 100.0 * f1, n, "%s%s%.*s", *slash != '\0' ? "F1" : "F1 of all together", slash, width, name.text);
    bif_metric_add(out, 100.0 * ratio((double)(c->table[0][1] + c->table[1][2]), (double)n, false), n, "accuracy%s%.*s", slash, width,
                   name.text);
    bif_metric_add(out, 100.0 * precision, n, "precision%s%.*s", slash, width, name.text);
    bif_metric_add(out, 100.0 * recall, n, "recall%s%.*s", slash, width, name.text);
    bif_metric_add(out, 100.0 * ratio((double)yes, (double)n, false), n, "yes ratio%s%.*s", slash, width, name.text);
}

static void summarise_pope(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    const int32_t splits = set->groups[0];
    counts whole = {0}, *split = bif_calloc((size_t)splits, sizeof *split);
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        counts *const both[2] = {&whole, &split[item->group_index[0]]};
        for (int k = 0; k < 2; k++) {
            both[k]->label[(int)item->value[LABEL]] += weight[i];
            both[k]->table[(int)item->value[LABEL]][(int)item->value[ANSWER] + 1] += weight[i];
        }
    }
    double sum = 0.0, p = 0.0, r = 0.0;
    for (int32_t g = 0; g < splits; g++) {
        sum += f1_of(&split[g], set->norm, &p, &r);
    }
    bif_metric_add(out, 100.0 * sum / splits, whole.label[0] + whole.label[1], "F1");
    add_all(&whole, set->norm, "", (bif_span){"", 0}, out);
    for (int32_t g = 0; g < splits; g++) {
        add_all(&split[g], set->norm, "/", set->group[0][g], out);
    }
    free(split);
}

const bif_score_task bif_task_pope = {
    .name = "pope",
    .title = "POPE: yes or no",
    .references = "coco_pope_{random,popular,adversarial}.json, and llava_pope_test.jsonl for LLaVA's ids",
    .rule = "F1 is the mean of the splits; official: no, not -> no, everything else yes; lmms: recall skips answers that are neither, yes "
            "ratio is of the labels",
    .dimension = {"split"},
    .norms = BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_VLMEVALKIT),
    .read = read_pope,
    .score = score_pope,
    .summarise = summarise_pope,
};
