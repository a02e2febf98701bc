/* GQA: exact match, and the other numbers of its eval.py. References: testdev_balanced_questions.json (id to question); with *_choices.json
 * (id to valid and plausible answers) validity and plausibility, with *_all_questions.json and predictions for all of it consistency. Only
 * balanced questions count.
 *
 * eval.py compares raw texts. What LLaVA does before: periods at the end go, lower case. lmms-eval: stripped, lower case without ASCII
 * punctuation, both sides; VLMEvalKit: stripped, lower case, both sides. The same is done to the answers of the other numbers.
 *
 * Consistency: for each question answered right the share of right answers among those it entails, averaged. Distribution: chi-square of
 * the answers given against the right ones in each group of questions, weighted by its size, / 100 (lower is better). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/score.h"

enum { RIGHT_PAIR = 0, GIVEN_PAIR = 1, CONSISTENCY = 2 }; /* item->value */

typedef struct {
    bif_span *items;
    int64_t count;
} list;

typedef struct {
    bif_span group; /* of the distribution; size 0 = none */
    bool open;      /* structural type query */
    bool common;    /* "Common" in its detailed type: valid and plausible are color, material and shape */
    list entailed, valid, plausible;
    bool choices, is_valid, is_plausible;
} details;

typedef struct {
    bif_span id;
    list valid, plausible;
} choice;

typedef struct {
    choice *choices;
    int64_t count, capacity;
    bool consistency;    /* all entailed questions are answered */
    int64_t pairs;       /* of a group and a right answer in it */
    int32_t *pair_group; /* [pairs], groups numbered in their order */
    int32_t groups;
} gqa;

static bif_status read_list(bif_score_set *set, bif_scan *s, list *out)
{
    bif_status st = BIF_OK;
    int64_t capacity = 0;
    *out = (list){0};
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        if (out->count == capacity) {
            bif_span *grown = bif_score_take(set, (size_t)(capacity = 2 * capacity + 8) * sizeof *grown);
            if (out->count > 0) {
                memcpy(grown, out->items, (size_t)out->count * sizeof *grown);
            }
            out->items = grown;
        }
        BIF_TRY(bif_scan_word(s, &out->items[out->count++]));
    }
done:
    return st;
}

static bool holds(bif_span text, const char *word)
{
    return text.size > 0 && memmem(text.text, text.size, word, strlen(word)) != NULL;
}

/* Reasoning steps: operations that are neither exist nor query: name nor choose name. */
static bif_status read_steps(bif_scan *s, bif_text_buffer *line, int64_t *steps)
{
    bif_status st = BIF_OK;
    bif_span name;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        bif_span operation = {"", 0}, argument = {"", 0};
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool member; (st = bif_scan_key(s, &name, &member)) == BIF_OK && member;) {
            BIF_TRY(bif_span_is(name, "operation")  ? bif_scan_word(s, &operation)
                    : bif_span_is(name, "argument") ? bif_scan_word(s, &argument)
                                                    : bif_scan_skip(s));
        }
        BIF_TRY(st);
        bif_text_clear(line);
        bif_text_add(line, operation.text, operation.size);
        bif_text_add(line, ": ", 2);
        bif_text_add(line, argument.text, argument.size);
        const bif_span text = bif_text_span(line);
        *steps += !holds(text, "exist") && !holds(text, "query: name") && !holds(text, "choose name");
    }
done:
    return st;
}

typedef struct {
    bif_span answer, question, image, structural, semantic, detailed;
    int64_t steps;
    bool balanced, has_steps;
} fields;

/* "types": {"structural": ..., "semantic": ..., "detailed": ...}, "groups": {"global": ..., "local": ...} */
static bif_status read_inner(bif_scan *s, fields *f, details *d)
{
    bif_status st = BIF_OK;
    bif_span name;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        bif_span *to = bif_span_is(name, "structural") ? &f->structural
                       : bif_span_is(name, "semantic") ? &f->semantic
                       : bif_span_is(name, "detailed") ? &f->detailed
                       : bif_span_is(name, "global")   ? &d->group
                                                       : NULL;
        BIF_TRY(to != NULL && bif_scan_peek(s) == '"' ? bif_scan_string(s, to) : bif_scan_skip(s));
    }
done:
    return st;
}

static bif_status read_member(bif_score_set *set, bif_scan *s, bif_text_buffer *line, bif_span id)
{
    bif_status st = BIF_OK;
    bif_span name;
    gqa *own = set->own;
    details d = {0};
    fields f = {.balanced = true};
    bool choices = false;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "valid") && c == '[') {
            choices = true;
            BIF_TRY(read_list(set, s, &d.valid));
        } else if (bif_span_is(name, "plausible") && c == '[') {
            choices = true;
            BIF_TRY(read_list(set, s, &d.plausible));
        } else if (bif_span_is(name, "entailed") && c == '[') {
            BIF_TRY(read_list(set, s, &d.entailed));
        } else if (bif_span_is(name, "semantic") && c == '[') {
            f.has_steps = true;
            BIF_TRY(read_steps(s, line, &f.steps));
        } else if ((bif_span_is(name, "types") || bif_span_is(name, "groups")) && c == '{') {
            BIF_TRY(read_inner(s, &f, &d));
        } else if (bif_span_is(name, "isBalanced")) {
            BIF_TRY(bif_scan_bool(s, &f.balanced));
        } else if (bif_span_is(name, "imageId")) {
            BIF_TRY(bif_scan_word(s, &f.image));
        } else if (bif_span_is(name, "answer") && c != 'n') {
            BIF_TRY(bif_scan_word(s, &f.answer));
        } else if (bif_span_is(name, "question") && c == '"') {
            BIF_TRY(bif_scan_string(s, &f.question));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (choices) {
        if (own->count == own->capacity) {
            own->capacity = 2 * own->capacity + 4096;
            choice *grown = bif_score_take(set, (size_t)own->capacity * sizeof *grown);
            if (own->count > 0) {
                memcpy(grown, own->choices, (size_t)own->count * sizeof *grown);
            }
            own->choices = grown;
        }
        own->choices[own->count++] = (choice){.id = id, .valid = d.valid, .plausible = d.plausible};
        goto done;
    }
    if (f.answer.text == NULL) {
        BIF_TRY(bif_scan_fail(s, "the question before (id %.*s) has no answer; a split with answers is wanted", (int)id.size, id.text));
    }
    d.open = bif_span_is(f.structural, "query");
    d.common = holds(f.detailed, "Common");
    details *kept = bif_score_take(set, sizeof *kept);
    *kept = d;
    bif_span *answers = bif_score_take(set, sizeof *answers), rest = f.question, word;
    *answers = f.answer;
    int64_t words = 0;
    while (bif_text_word(&rest, &word)) {
        words++;
    }
    bif_score_item *item = bif_score_add(set, id);
    item->extra = item->optional = !f.balanced;
    item->cluster = f.image;
    item->answers = answers;
    item->answer_count = 1;
    item->more = kept;
    if (f.balanced) {
        item->group[0] = f.structural;
        item->group[1] = f.semantic;
        item->group[2] = f.question.text != NULL ? bif_score_text(set, "%lld words", (long long)words) : (bif_span){0};
        item->group[3] = f.has_steps ? bif_score_text(set, "%lld steps", (long long)f.steps) : (bif_span){0};
    }
done:
    return st;
}

static bif_status read_gqa(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    bif_text_buffer line = {0};
    gqa *own = set->own = bif_score_take(set, sizeof *own);
    int64_t joined = 0;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        bif_span id;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &id, &more)) == BIF_OK && more;) {
            BIF_TRY(read_member(set, s, &line, id));
        }
        BIF_TRY(st);
        BIF_TRY(bif_scan_end(s));
    }
    if (own->count > 0 && set->count > 0) {
        BIF_TRY(bif_score_prepare(set));
        for (int64_t i = 0; i < own->count; i++) {
            bif_score_item *item = bif_score_find(set, own->choices[i].id);
            if (item != NULL) {
                details *d = item->more;
                joined += !item->extra && !d->choices;
                d->choices = true;
                d->valid = own->choices[i].valid;
                d->plausible = own->choices[i].plausible;
            }
        }
        int64_t balanced = 0;
        for (int64_t i = 0; i < set->count; i++) {
            balanced += !set->items[i].extra;
        }
        if (joined < balanced) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%lld of %lld questions are not in the file of choices; are these of the same split?",
                             (long long)(balanced - joined), (long long)balanced));
        }
    }
done:
    bif_text_free(&line);
    return st;
}

/* ---- scores ---- */

/* lmms-eval lowers an array of numpy, whose texts keep their length: what grew (a dotted capital I becomes two characters) loses its end.
 */
static void keep_characters(bif_text_buffer *low, bif_span text)
{
    for (size_t grown = bif_text_characters(bif_text_span(low)) - bif_text_characters(text); grown > 0; grown--) {
        do {
            low->size--;
        } while (((unsigned char)low->text[low->size] & 0xC0) == 0x80);
    }
}

static bif_span normalised(bif_text_buffer *buffer, bif_span text, bif_norm norm)
{
    if (norm == BIF_NORM_OFFICIAL) {
        return text;
    }
    while (norm == BIF_NORM_LLAVA && text.size > 0 && text.text[text.size - 1] == '.') {
        text.size--;
    }
    text = norm == BIF_NORM_VLMEVALKIT ? bif_text_strip(text) : text;
    bif_text_clear(buffer);
    bif_text_lower(text, buffer);
    if (norm == BIF_NORM_LMMS) {
        keep_characters(buffer, text);
        size_t kept = 0;
        for (size_t i = 0; i < buffer->size; i++) {
            const char c = buffer->text[i];
            const bool mark = (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
            buffer->text[kept] = c;
            kept += !mark;
        }
        buffer->size = kept;
    }
    return bif_text_span(buffer);
}

/* The right side; LLaVA leaves it as it is. */
static bif_span right_answer(bif_text_buffer *buffer, bif_span text, bif_norm norm)
{
    return norm == BIF_NORM_LLAVA ? text : normalised(buffer, text, norm);
}

static bool belongs(const details *d, bif_text_buffer *buffer, bif_span given, const list *group, bif_norm norm)
{
    static const char *const common[] = {"color", "material", "shape"};
    if (d->common) {
        return bif_span_is(given, common[0]) || bif_span_is(given, common[1]) || bif_span_is(given, common[2]);
    }
    for (int64_t i = 0; i < group->count; i++) {
        if (bif_span_equal(right_answer(buffer, group->items[i], norm), given)) {
            return true;
        }
    }
    return false;
}

typedef struct {
    bif_span group, answer;
} pair;

static int compare_spans(bif_span a, bif_span b)
{
    const int order = a.size == 0 || b.size == 0 ? 0 : memcmp(a.text, b.text, a.size < b.size ? a.size : b.size);
    return order != 0 ? order : a.size < b.size ? -1 : a.size > b.size;
}

static int compare_pairs(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    const int order = compare_spans(x->group, y->group);
    return order != 0 ? order : compare_spans(x->answer, y->answer);
}

/* Which pair of group and right answer each right and each given answer is. right: [items] normalised right answers. */
static void number_pairs(bif_score_set *set, const bif_span *right)
{
    gqa *own = set->own;
    pair *pairs = bif_malloc((size_t)set->count * sizeof *pairs);
    int64_t all = 0, unique = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const details *d = set->items[i].more;
        if (!set->items[i].extra && d->group.size > 0) {
            pairs[all++] = (pair){d->group, right[i]};
        }
    }
    qsort(pairs, (size_t)all, sizeof *pairs, compare_pairs);
    for (int64_t i = 0; i < all; i++) {
        if (unique == 0 || compare_pairs(&pairs[unique - 1], &pairs[i]) != 0) {
            pairs[unique++] = pairs[i];
        }
    }
    own->pairs = unique;
    own->groups = 0;
    own->pair_group = bif_score_take(set, ((size_t)unique + 1) * sizeof *own->pair_group);
    for (int64_t i = 0; i < unique; i++) {
        own->groups += i == 0 || !bif_span_equal(pairs[i].group, pairs[i - 1].group);
        own->pair_group[i] = own->groups - 1;
    }
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const details *d = item->more;
        const pair mine = {d->group, right[i]}, given = {d->group, item->parsed};
        const bool has = !item->extra && d->group.size > 0;
        const pair *r = has ? bsearch(&mine, pairs, (size_t)unique, sizeof *pairs, compare_pairs) : NULL;
        const pair *g = has ? bsearch(&given, pairs, (size_t)unique, sizeof *pairs, compare_pairs) : NULL;
        item->value[RIGHT_PAIR] = r != NULL ? (double)(r - pairs) : -1.0;
        item->value[GIVEN_PAIR] = g != NULL ? (double)(g - pairs) : -1.0;
    }
    free(pairs);
}

/* For each question answered right the share of right ones among those it entails (not itself); -1: no such share. */
static void follow(bif_score_set *set)
{
    gqa *own = set->own;
    int64_t absent = 0, questions = 0;
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const details *d = item->more;
        double right = 0.0;
        int64_t count = 0;
        item->value[CONSISTENCY] = -1.0;
        for (int64_t k = 0; k < d->entailed.count && !item->extra; k++) {
            if (bif_span_equal(d->entailed.items[k], item->id)) {
                continue;
            }
            const bif_score_item *other = bif_score_find(set, d->entailed.items[k]);
            absent += other == NULL || (other->extra && other->line == 0);
            right += other != NULL && other->score > 0.5;
            count++;
        }
        if (count > 0) {
            questions++;
            item->value[CONSISTENCY] = item->score > 0.5 ? right / (double)count : -1.0;
        }
    }
    own->consistency = questions > 0 && absent == 0;
    if (questions > 0 && absent > 0) {
        bif_score_note(
            set,
            "no consistency: %lld entailed questions are not among the references and predictions (it takes *_all_questions.json and "
            "predictions for all of it)",
            (long long)absent);
    }
}

static bif_status score_gqa(bif_score_set *set, bif_norm norm)
{
    bif_text_buffer buffer = {0};
    bif_span *right = bif_malloc((size_t)set->count * sizeof *right);
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        details *d = item->more;
        const bif_span said = norm == BIF_NORM_LMMS ? bif_text_strip(item->prediction) : item->prediction;
        const bif_span given = normalised(&buffer, said, norm);
        item->parsed = given.text == said.text ? given : bif_score_keep(set, given);
        right[i] = right_answer(&buffer, item->answers[0], norm);
        right[i] = right[i].text == item->answers[0].text ? right[i] : bif_score_keep(set, right[i]);
        item->score = (item->line > 0 || item->parsed.size > 0) && bif_span_equal(item->parsed, right[i]);
        d->is_valid = d->choices && belongs(d, &buffer, item->parsed, &d->valid, norm);
        d->is_plausible = d->choices && belongs(d, &buffer, item->parsed, &d->plausible, norm);
    }
    number_pairs(set, right);
    follow(set);
    free(right);
    bif_text_free(&buffer);
    return BIF_OK;
}

static void add_share(bif_metric_list *out, double sum, int64_t count, const char *name)
{
    bif_metric_add(out, 100.0 * sum / (double)count, count, "%s", name);
}

/* Chi-square over the groups, each weighted by its questions. */
static void add_distribution(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    const gqa *own = set->own;
    double *right = bif_calloc((size_t)own->pairs, sizeof *right), *given = bif_calloc((size_t)own->pairs, sizeof *given);
    double *chi = bif_calloc((size_t)own->groups, sizeof *chi), *size = bif_calloc((size_t)own->groups, sizeof *size), sum = 0.0,
           whole = 0.0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        if (item->value[RIGHT_PAIR] >= 0.0 && !item->extra) {
            right[(int64_t)item->value[RIGHT_PAIR]] += weight[i];
        }
        if (item->value[GIVEN_PAIR] >= 0.0 && !item->extra) {
            given[(int64_t)item->value[GIVEN_PAIR]] += weight[i];
        }
    }
    for (int64_t p = 0; p < own->pairs; p++) {
        if (right[p] > 0.0) {
            chi[own->pair_group[p]] += (given[p] - right[p]) * (given[p] - right[p]) / right[p];
            size[own->pair_group[p]] += right[p];
        }
    }
    for (int32_t g = 0; g < own->groups; g++) {
        sum += chi[g] * size[g];
        whole += size[g];
    }
    bif_metric_add(out, whole > 0.0 ? sum / whole / 100.0 : NAN, (int64_t)whole, "distribution (lower is better)");
    free(right);
    free(given);
    free(chi);
    free(size);
}

static void summarise_gqa(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    const gqa *own = set->own;
    double right[2] = {0}, valid = 0.0, plausible = 0.0, consistent = 0.0;
    int64_t count[2] = {0}, followed = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        const details *d = item->more;
        if (item->extra) {
            continue;
        }
        right[d->open] += weight[i] * item->score;
        count[d->open] += weight[i];
        valid += d->is_valid ? weight[i] : 0;
        plausible += d->is_plausible ? weight[i] : 0;
        if (item->value[CONSISTENCY] >= 0.0) {
            consistent += weight[i] * item->value[CONSISTENCY];
            followed += weight[i];
        }
    }
    bif_score_means(set, "accuracy", weight, out);
    add_share(out, right[0], count[0], "binary");
    add_share(out, right[1], count[1], "open");
    if (own->consistency) {
        add_share(out, consistent, followed, "consistency");
    }
    if (own->count > 0) {
        add_share(out, valid, count[0] + count[1], "validity");
        add_share(out, plausible, count[0] + count[1], "plausibility");
    }
    add_distribution(set, weight, out);
}

const bif_score_task bif_task_gqa = {
    .name = "gqa",
    .title = "GQA: exact match, and eval.py's other numbers",
    .references = "testdev_balanced_questions.json; *_choices.json and *_all_questions.json for validity, plausibility, consistency",
    .rule = "llava: periods at the end go and lower case, then the official equality",
    .dimension = {"structural", "semantic", "words", "steps"},
    .norms =
        BIF_NORM_BIT(BIF_NORM_OFFICIAL) | BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_VLMEVALKIT) | BIF_NORM_BIT(BIF_NORM_LLAVA),
    .usual = BIF_NORM_LLAVA,
    .read = read_gqa,
    .score = score_gqa,
    .summarise = summarise_gqa,
};
