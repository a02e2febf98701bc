/* ScienceQA: multiple choice, and what LLaVA publishes of it, the accuracy on questions with a picture. References: problems.json, and
 * pid_splits.json for which of them are the test split (without it: those whose "split" is test). Groups as the benchmark's table has them:
 * subject (NAT, SOC, LAN), context (TXT with a hint, IMG with a picture, NO with neither; a question may be in both of the first), grade
 * (G1-6, G7-12). */
#include "eval/choice.h"
#include "eval/score.h"

typedef struct {
    int options;
    bool text, image;
} problem;

static bif_status read_problem(bif_score_set *set, bif_scan *s, bif_span id)
{
    bif_status st = BIF_OK;
    bif_span name, text, subject = {0}, grade = {0}, split = {"test", 4};
    problem p = {0};
    int64_t answer = -1;
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const char c = bif_scan_peek(s);
        if (bif_span_is(name, "choices") && c == '[') {
            BIF_TRY(bif_scan_enter(s, '['));
            for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another; p.options++) {
                BIF_TRY(bif_scan_skip(s));
            }
            BIF_TRY(st);
        } else if (bif_span_is(name, "answer") && c != 'n') {
            BIF_TRY(bif_scan_i64(s, &answer));
        } else if (bif_span_is(name, "hint") && c == '"') {
            BIF_TRY(bif_scan_string(s, &text));
            p.text = text.size > 0;
        } else if (bif_span_is(name, "image") && c == '"') {
            BIF_TRY(bif_scan_string(s, &text));
            p.image = text.size > 0;
        } else if (bif_span_is(name, "subject") && c == '"') {
            BIF_TRY(bif_scan_string(s, &subject));
        } else if (bif_span_is(name, "grade") && c == '"') {
            BIF_TRY(bif_scan_string(s, &grade));
        } else if (bif_span_is(name, "split") && c == '"') {
            BIF_TRY(bif_scan_string(s, &split));
        } else {
            BIF_TRY(bif_scan_skip(s));
        }
    }
    BIF_TRY(st);
    if (answer < 0 || answer >= p.options || answer >= 5) {
        BIF_TRY(bif_scan_fail(s, "the problem before (id %.*s) has %d choices and answer %lld", (int)id.size, id.text, p.options,
                              (long long)answer));
    }
    problem *kept = bif_score_take(set, sizeof *kept);
    bif_span *answers = bif_score_take(set, sizeof *answers);
    static const char letters[] = "ABCDE";
    *kept = p;
    *answers = (bif_span){letters + answer, 1};
    bif_score_item *item = bif_score_add(set, id);
    item->answers = answers;
    item->answer_count = 1;
    item->more = kept;
    item->extra = !bif_span_is(split, "test");
    item->group[0] = bif_span_is(subject, "natural science")    ? (bif_span){"NAT", 3}
                     : bif_span_is(subject, "social science")   ? (bif_span){"SOC", 3}
                     : bif_span_is(subject, "language science") ? (bif_span){"LAN", 3}
                                                                : subject;
    if (grade.size == 6 || grade.size == 7) {
        const bool low = grade.size == 6 && grade.text[5] >= '1' && grade.text[5] <= '6';
        item->group[1] = low ? (bif_span){"G1-6", 4} : (bif_span){"G7-12", 5};
    }
done:
    return st;
}

/* {"train": [...], "val": [...], "test": ["4", ...], ...}: problems that are not listed under test leave. */
static bif_status read_splits(bif_score_set *set, bif_scan *s, const char *path)
{
    bif_status st = BIF_OK;
    bif_span name, id;
    bool found = false;
    for (int64_t i = 0; i < set->count; i++) {
        set->items[i].extra = true;
    }
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        if (!bif_span_is(name, "test")) {
            BIF_TRY(bif_scan_skip(s));
            continue;
        }
        found = true;
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
            BIF_TRY(bif_scan_word(s, &id));
            bif_score_item *item = bif_score_find(set, id);
            if (item == NULL) {
                BIF_TRY(bif_scan_fail(s, "problem %.*s is not in problems.json", (int)id.size, id.text));
            }
            item->extra = false;
        }
        BIF_TRY(st);
    }
    BIF_TRY(st);
    BIF_TRY(bif_scan_end(s));
    if (!found) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no list \"test\" in it", path));
    }
done:
    return st;
}

static bif_status read_scienceqa(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    const char *splits = NULL;
    bif_scan *s = NULL;
    bif_span name;
    for (size_t i = 0; i < count; i++) {
        bool more = false;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        BIF_TRY(bif_scan_key(s, &name, &more));
        if (more && bif_scan_peek(s) == '[') {
            splits = paths[i];
            continue;
        }
        for (; more;) {
            BIF_TRY(read_problem(set, s, name));
            BIF_TRY(bif_scan_key(s, &name, &more));
        }
        BIF_TRY(bif_scan_end(s));
    }
    if (splits != NULL) {
        BIF_TRY(bif_score_prepare(set));
        BIF_TRY(bif_score_file(set, splits, &s));
        BIF_TRY(read_splits(set, s, splits));
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < set->count; i++) {
        if (!set->items[i].extra) {
            set->items[kept++] = set->items[i];
        }
    }
    set->count = kept;
done:
    return st;
}

static bif_status score_scienceqa(bif_score_set *set, bif_norm norm)
{
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const problem *p = item->more;
        const char letter =
            norm == BIF_NORM_LMMS ? bif_choice_lmms_front(item->prediction) : bif_choice_llava(item->prediction, p->options);
        item->unparsed = letter == 0;
        item->parsed = letter != 0 ? bif_score_keep(set, (bif_span){&letter, 1}) : (bif_span){"FAILED", 6};
        item->score = letter == *item->answers[0].text;
    }
    return BIF_OK;
}

static void summarise_scienceqa(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    static const char *const names[] = {"TXT", "IMG", "NO"};
    double right[3] = {0};
    int64_t count[3] = {0};
    for (int64_t i = 0; i < set->count; i++) {
        const problem *p = set->items[i].more;
        const bool in[3] = {p->text, p->image, !p->text && !p->image};
        for (int k = 0; k < 3; k++) {
            right[k] += in[k] ? weight[i] * set->items[i].score : 0.0;
            count[k] += in[k] ? weight[i] : 0;
        }
    }
    bif_metric_add(out, 100.0 * right[1] / (double)count[1], count[1], "IMG-accuracy");
    bif_score_means(set, "accuracy", weight, out);
    for (int k = 0; k < 3; k++) {
        bif_metric_add(out, 100.0 * right[k] / (double)count[k], count[k], "accuracy/%s", names[k]);
    }
}

const bif_score_task bif_task_scienceqa = {
    .name = "scienceqa",
    .title = "ScienceQA, test split: accuracy, and that of questions with a picture",
    .references = "problems.json and pid_splits.json",
    .rule = "llava: a letter alone, \"X. \" at the front, or one \"The answer is X.\"; anything else is wrong",
    .dimension = {"subject", "grade"},
    .norms = BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_LLAVA),
    .usual = BIF_NORM_LLAVA,
    .read = read_scienceqa,
    .score = score_scienceqa,
    .summarise = summarise_scienceqa,
};
