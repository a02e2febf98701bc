/* MM-Vet: a judge gives each answer 0 to 1; the mean over all questions, over those that need a capability, and over those that need the
 * same set of them. Several runs of the judge are averaged, and the spread of their totals is given. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/judge.h"

enum { CAPABILITIES = 32 };

typedef struct {
    bif_judge_question question; /* first: see judge.h */
    uint32_t needs;              /* a bit a capability */
    double *runs;
} vet;

typedef struct {
    bif_span name[CAPABILITIES];
    int32_t count;
    int64_t runs;
} vets;

static int by_name(const void *a, const void *b)
{
    const bif_span *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : x->size < y->size ? -1 : x->size > y->size;
}

static bif_status read_capabilities(bif_score_set *set, bif_scan *s, vet *v, bif_span *joined)
{
    bif_status st = BIF_OK;
    vets *all = set->own;
    bif_span names[CAPABILITIES];
    bif_text_buffer text = {0};
    size_t count = 0;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
        bif_span name;
        int32_t k = 0;
        BIF_TRY(bif_scan_string(s, &name));
        while (k < all->count && !bif_span_equal(all->name[k], name)) {
            k++;
        }
        if (k == CAPABILITIES) {
            BIF_TRY(bif_scan_fail(s, "more than %d capabilities", CAPABILITIES));
        }
        all->name[k] = name;
        all->count = k == all->count ? k + 1 : all->count;
        if ((v->needs >> k & 1) == 0) {
            names[count++] = name;
        }
        v->needs |= 1u << k;
    }
    BIF_TRY(st);
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        bif_text_add(&text, "_", i > 0 ? 1 : 0);
        bif_text_add(&text, names[i].text, names[i].size);
    }
    *joined = bif_score_keep(set, bif_text_span(&text));
done:
    bif_text_free(&text);
    return st;
}

/* {"v1_0": {"imagename", "question", "answer", "capability": ["ocr", ...]}, ...} */
static bif_status read_vet(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    set->own = bif_score_take(set, sizeof(vets));
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        bif_span id, name;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more, member; (st = bif_scan_key(s, &id, &more)) == BIF_OK && more;) {
            vet *v = bif_score_take(set, sizeof *v);
            bif_span joined = {0};
            BIF_TRY(bif_scan_enter(s, '{'));
            while ((st = bif_scan_key(s, &name, &member)) == BIF_OK && member) {
                const char c = bif_scan_peek(s);
                if (bif_span_is(name, "question") && c == '"') {
                    BIF_TRY(bif_scan_string(s, &v->question.question));
                } else if (bif_span_is(name, "answer") && c == '"') {
                    BIF_TRY(bif_scan_string(s, &v->question.reference));
                } else if (bif_span_is(name, "imagename") && c == '"') {
                    BIF_TRY(bif_scan_string(s, &v->question.image));
                } else if (bif_span_is(name, "capability")) {
                    BIF_TRY(read_capabilities(set, s, v, &joined));
                } else {
                    BIF_TRY(bif_scan_skip(s));
                }
            }
            BIF_TRY(st);
            if (v->needs == 0 || v->question.question.text == NULL || v->question.reference.text == NULL) {
                BIF_TRY(bif_scan_fail(s, "question %.*s has no %s", (int)id.size, id.text,
                                      v->needs == 0 ? "capability" : v->question.question.text == NULL ? "question" : "answer"));
            }
            bif_score_item *item = bif_score_add(set, id);
            const char *under = id.size > 0 ? memchr(id.text, '_', id.size) : NULL;
            item->other_id = under != NULL ? (bif_span){under + 1, (size_t)(id.text + id.size - under) - 1} : (bif_span){"", 0};
            item->cluster = v->question.image;
            item->group[0] = joined;
            item->more = v;
            item->answers = &v->question.reference;
            item->answer_count = 1;
        }
        BIF_TRY(st);
        BIF_TRY(bif_scan_end(s));
    }
done:
    return st;
}

/* LLaVA's answers name v1_7 by its number. */
static bool name_of_row(bif_span id, bif_span prompt, bif_text_buffer *out)
{
    (void)prompt;
    bif_text_add(out, id.text, id.size);
    return true;
}

/* A number, or a text of the judge, or a list of them: parted by a zero byte. */
static bif_status read_grades(bif_scan *s, bif_text_buffer *out)
{
    bif_status st = BIF_OK;
    bif_span word;
    const bool list = bif_scan_peek(s) == '[';
    bool more = true;
    bif_text_clear(out);
    if (list) {
        BIF_TRY(bif_scan_enter(s, '['));
        BIF_TRY(bif_scan_more(s, &more));
    }
    while (more) {
        BIF_TRY(bif_scan_word(s, &word));
        bif_text_add(out, "\0", out->size > 0 ? 1 : 0);
        bif_text_add(out, word.text, word.size);
        more = false;
        if (list) {
            BIF_TRY(bif_scan_more(s, &more));
        }
    }
done:
    return st;
}

/* The members of a graded answer: "score" counts where there is one, else "content". */
static bif_status read_graded(bif_score_set *set, bif_score_reader *reader, bif_scan *s, const char *path, bif_span id)
{
    bif_status st = BIF_OK;
    bif_text_buffer grades = {0};
    bif_span name, found = {0};
    const int64_t line = bif_scan_line(s);
    bool score = false;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const bool mine = bif_span_is(name, "score");
        if (bif_span_is(name, "question_id")) {
            BIF_TRY(bif_scan_word(s, &id));
        } else if (bif_span_is(name, "custom_id") && id.text == NULL && bif_scan_peek(s) == '"') {
            BIF_TRY(bif_scan_string(s, &id));
            id = bif_judge_own_id(set->task, id);
        } else if (!score && bif_span_is(name, "response") && bif_scan_peek(s) == '{') {
            BIF_TRY(bif_judge_reply(s, &found));
        } else if (mine || (!score && bif_span_is(name, "content"))) {
            score = score || mine;
            BIF_TRY(read_grades(s, &grades));
            found = bif_score_keep(set, bif_text_span(&grades));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (id.text == NULL || found.text == NULL) {
        BIF_TRY(bif_scan_fail(s, "the grade before has no %s", id.text == NULL ? "question_id or custom_id" : "score, no content and no response"));
    }
    bif_score_answer(reader, path, line, id, found);
done:
    bif_text_free(&grades);
    return st;
}

/* Grades: the evaluator's file {"v1_0": {"score": [0.5, ...], "content": [...]}}, or JSON lines of question_id and score or
 * content, or of custom_id and response. */
static bif_status read_grade_file(bif_score_set *set, bif_score_reader *reader, const char *path, bool *own)
{
    static const char *const keys[] = {"score", "content", "response", NULL};
    bif_status st = BIF_OK;
    bif_scan *s = NULL;
    bif_span id = {0};
    bool lines = false;
    BIF_TRY(bif_score_file(set, path, &s));
    lines = bif_judge_has_key(s, keys);
    if (bif_scan_peek(s) == '{' && !lines) {
        bool more;
        BIF_TRY(bif_scan_enter(s, '{'));
        st = bif_scan_key(s, &id, &more);
        *own = st == BIF_OK && more && bif_scan_peek(s) == '{';
        for (; *own && st == BIF_OK && more; st = bif_scan_key(s, &id, &more)) {
            BIF_TRY(read_graded(set, reader, s, path, id));
        }
        BIF_TRY(st);
    }
    while (lines && bif_scan_peek(s) == '{') {
        *own = true;
        BIF_TRY(read_graded(set, reader, s, path, (bif_span){0}));
    }
    st = *own ? bif_scan_end(s) : BIF_OK;
done:
    return st;
}

/* The first word of a reply, 0 to 1. */
static bool grade_of(bif_span reply, double *out)
{
    const char *blank = reply.size > 0 ? memchr(reply.text, ' ', reply.size) : NULL;
    const bif_span word = {reply.text, blank != NULL ? (size_t)(blank - reply.text) : reply.size};
    return bif_judge_number(word, out) && *out >= 0.0 && *out <= 1.0;
}

static bif_status score_vet(bif_score_set *set, bif_norm norm)
{
    (void)norm;
    vets *all = set->own;
    all->runs = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_span text = set->items[i].prediction;
        int64_t runs = text.size > 0;
        for (size_t k = 0; k < text.size; k++) {
            runs += text.text[k] == '\0';
        }
        if (runs > 0 && all->runs > 0 && runs != all->runs) {
            return bif_fail(BIF_ERR_DATA, "question %.*s has %lld grades, others have %lld", (int)set->items[i].id.size,
                            set->items[i].id.text, (long long)runs, (long long)all->runs);
        }
        all->runs = runs > 0 ? runs : all->runs;
    }
    all->runs = all->runs > 0 ? all->runs : 1;
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        vet *v = item->more;
        bif_text_buffer text = {0};
        bif_span rest = item->prediction;
        v->runs = bif_score_take(set, (size_t)all->runs * sizeof *v->runs);
        for (int64_t r = 0; r < all->runs; r++) {
            const char *end = rest.size > 0 ? memchr(rest.text, '\0', rest.size) : NULL;
            const bif_span reply = {rest.text, end != NULL ? (size_t)(end - rest.text) : rest.size};
            if (!grade_of(reply, &v->runs[r])) {
                v->runs[r] = 0.0;
                item->unparsed = true;
            }
            item->score += v->runs[r] / (double)all->runs;
            rest = end != NULL ? (bif_span){end + 1, rest.size - reply.size - 1} : (bif_span){"", 0};
            const bif_span number = bif_score_text(set, r > 0 ? " %g" : "%g", v->runs[r]);
            bif_text_add(&text, number.text, number.size);
        }
        item->parsed = bif_score_keep(set, bif_text_span(&text));
        bif_text_free(&text);
    }
    return BIF_OK;
}

typedef struct {
    bif_span name;
    double sum;
    int64_t weight, size;
    int32_t place;
} part;

static int by_size(const void *a, const void *b)
{
    const part *x = a, *y = b;
    return x->size != y->size ? (x->size < y->size ? 1 : -1) : x->place - y->place;
}

static void add_parts(const char *kind, part *parts, int32_t count, bif_metric_list *out)
{
    qsort(parts, (size_t)count, sizeof *parts, by_size);
    for (int32_t k = 0; k < count; k++) {
        const part *p = &parts[k];
        bif_metric_add(out, 100.0 * p->sum / (double)p->weight, p->weight, "%s/%.*s", kind, (int)p->name.size, p->name.text);
    }
}

static void summarise(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    const vets *all = set->own;
    part capability[CAPABILITIES] = {{{0}, 0, 0, 0, 0}}, *integration = bif_calloc((size_t)set->groups[0] + 1, sizeof *integration);
    double *totals = bif_calloc((size_t)all->runs, sizeof *totals), mean = 0.0, square = 0.0;
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        const vet *v = item->more;
        count += weight[i];
        for (int64_t r = 0; r < all->runs; r++) {
            totals[r] += weight[i] * v->runs[r];
        }
        for (int32_t k = 0; k < all->count; k++) {
            if ((v->needs >> k & 1) != 0) {
                capability[k].sum += weight[i] * item->score;
                capability[k].weight += weight[i];
                capability[k].size++;
            }
        }
        part *p = &integration[item->group_index[0]];
        p->sum += weight[i] * item->score;
        p->weight += weight[i];
        p->size++;
    }
    for (int64_t r = 0; r < all->runs; r++) {
        totals[r] *= 100.0 / (double)count;
        mean += totals[r] / (double)all->runs;
    }
    for (int64_t r = 0; r < all->runs; r++) {
        square += (totals[r] - mean) * (totals[r] - mean) / (double)all->runs;
    }
    bif_metric_add(out, mean, count, "total");
    bif_metric_add(out, sqrt(square), all->runs, "spread of runs");
    for (int32_t k = 0; k < all->count; k++) {
        capability[k].name = all->name[k];
        capability[k].place = k;
    }
    for (int32_t k = 0; k < set->groups[0]; k++) {
        integration[k].name = set->group[0][k];
        integration[k].place = k;
    }
    add_parts("capability", capability, all->count, out);
    add_parts("integration", integration, set->groups[0], out);
    free(totals);
    free(integration);
}

const bif_score_task bif_task_mm_vet = {
    .name = "mm-vet",
    .title = "MM-Vet: grades of a judge by capability and by sets of them",
    .references = "mm-vet.json",
    .rule = "100 x mean grade; several runs are averaged",
    .dimension = {"capabilities"},
    .read = read_vet,
    .name_of_row = name_of_row,
    .predict = read_grade_file,
    .score = score_vet,
    .summarise = summarise,
};
