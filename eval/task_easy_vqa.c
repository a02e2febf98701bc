/* easy-VQA: 13 answers about one shape a picture. References: its own questions.json, a list of [question, answer, image]; the id of a
 * question is its place in it, from 0. Equal answers are those of task exact. */
#include "eval/score.h"

bif_status bif_easy_vqa_row(bif_scan *s, bif_span row[3])
{
    bif_status st = BIF_OK;
    int count = 0;
    BIF_TRY(bif_scan_enter(s, '['));
    for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more; count++) {
        BIF_TRY(count < 3 ? bif_scan_word(s, &row[count]) : bif_scan_skip(s));
    }
    BIF_TRY(st);
    if (count != 3) {
        BIF_TRY(bif_scan_fail(s, "a row of easy-VQA is [question, answer, image], the one before has %d elements", count));
    }
done:
    return st;
}

/* As easy-VQA groups its answers. */
static bif_span kind_of(bif_span answer)
{
    const bool shape = bif_span_is(answer, "circle") || bif_span_is(answer, "rectangle") || bif_span_is(answer, "triangle");
    const bool yes_no = bif_span_is(answer, "yes") || bif_span_is(answer, "no");
    return yes_no ? answer : shape ? (bif_span){"shape", 5} : (bif_span){"colour", 6};
}

static bif_status read_easy_vqa(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '['));
        for (bool more; (st = bif_scan_more(s, &more)) == BIF_OK && more;) {
            bif_span row[3], *answer = bif_score_take(set, sizeof *answer);
            BIF_TRY(bif_easy_vqa_row(s, row));
            *answer = row[1];
            bif_score_item *item = bif_score_add(set, bif_score_text(set, "%lld", (long long)set->count));
            item->cluster = row[2];
            item->group[0] = kind_of(row[1]);
            item->answers = answer;
            item->answer_count = 1;
        }
        BIF_TRY(st);
        BIF_TRY(bif_scan_end(s));
    }
done:
    return st;
}

const bif_score_task bif_task_easy_vqa = {
    .name = "easy-vqa",
    .title = "easy-VQA: exact match of 13 answers",
    .references = "questions.json, a list of [question, answer, image]; ids are places in it, from 0",
    .rule = "white space around, one trailing period and ASCII case do not count",
    .dimension = {"type"},
    .read = read_easy_vqa,
    .score = bif_score_exact,
};
