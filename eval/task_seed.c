/* SEED-Bench with generated letters: accuracy over all, over pictures and videos, and a type of question. References: SEED-Bench.json. */
#include <ctype.h>
#include <string.h>

#include "eval/choice.h"
#include "eval/score.h"

typedef struct {
    bif_span name, number;
} type;

enum { TYPES = 64 };

static bif_status read_question(bif_score_set *set, bif_scan *s)
{
    bif_status st = BIF_OK;
    bif_span name, id = {0}, answer = {0}, kind = {0}, number = {0}, data = {0};
    bif_options *options = bif_score_take(set, sizeof *options);
    BIF_TRY(bif_scan_enter(s, '{'));
    for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
        const bool null = bif_scan_peek(s) == 'n';
        const bool option = name.size == 8 && memcmp(name.text, "choice_", 7) == 0 && name.text[7] >= 'a' && name.text[7] <= 'z';
        bif_span *to = bif_span_is(name, "question_id")        ? &id
                       : bif_span_is(name, "answer")           ? &answer
                       : bif_span_is(name, "data_type")        ? &kind
                       : bif_span_is(name, "question_type_id") ? &number
                       : bif_span_is(name, "data_id")          ? &data
                       : option                                ? &options->text[name.text[7] - 'a']
                                                               : NULL;
        BIF_TRY(to != NULL && !null && bif_scan_peek(s) != '[' ? bif_scan_word(s, to) : bif_scan_skip(s));
    }
    BIF_TRY(st);
    if (id.text == NULL || answer.size != 1) {
        BIF_TRY(bif_scan_fail(s, "the question before has no %s", id.text == NULL ? "question_id" : "answer of one letter"));
    }
    bif_span *answers = bif_score_take(set, sizeof *answers);
    *answers = answer;
    bif_score_item *item = bif_score_add(set, id);
    item->cluster = data;
    item->answers = answers;
    item->answer_count = 1;
    item->more = options;
    item->group[0] = kind;
    item->group[1] = number; /* its name when it is known */
done:
    return st;
}

static bif_status read_seed(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        bif_scan *s = NULL;
        bif_span name;
        type types[TYPES];
        int known = 0;
        bool found = false;
        const int64_t from = set->count;
        BIF_TRY(bif_score_file(set, paths[i], &s));
        BIF_TRY(bif_scan_enter(s, '{'));
        for (bool more; (st = bif_scan_key(s, &name, &more)) == BIF_OK && more;) {
            if (bif_span_is(name, "questions") && bif_scan_peek(s) == '[') {
                found = true;
                BIF_TRY(bif_scan_enter(s, '['));
                for (bool another; (st = bif_scan_more(s, &another)) == BIF_OK && another;) {
                    BIF_TRY(read_question(set, s));
                }
                BIF_TRY(st);
            } else if (bif_span_is(name, "question_type") && bif_scan_peek(s) == '{') {
                BIF_TRY(bif_scan_enter(s, '{'));
                for (bool member; (st = bif_scan_key(s, &types[known].name, &member)) == BIF_OK && member; known++) {
                    BIF_TRY(bif_scan_word(s, &types[known].number));
                    if (known == TYPES - 1) {
                        BIF_TRY(bif_scan_fail(s, "more than %d types of questions", TYPES - 1));
                    }
                }
                BIF_TRY(st);
            } else {
                BIF_TRY(bif_scan_skip(s));
            }
        }
        BIF_TRY(st);
        BIF_TRY(bif_scan_end(s));
        if (!found) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: no list \"questions\" in it", paths[i]));
        }
        for (int64_t k = from; k < set->count; k++) {
            bif_span *group = &set->items[k].group[1];
            for (int t = 0; t < known; t++) {
                if (bif_span_equal(*group, types[t].number)) {
                    *group = types[t].name;
                    break;
                }
            }
        }
    }
done:
    return st;
}

static bif_status score_seed(bif_score_set *set, bif_norm norm)
{
    bif_text_buffer buffer = {0};
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const char right = *item->answers[0].text;
        const bif_span bare = bif_text_strip(item->prediction);
        char letter = 0;
        if (norm == BIF_NORM_LMMS) { /* the first character, in either case */
            letter = bare.size > 0 ? (char)toupper((unsigned char)*bare.text) : 0;
        } else if (norm == BIF_NORM_VLMEVALKIT) {
            letter = bif_choice_vlmevalkit(&buffer, bare, item->more);
        } else {
            letter = item->prediction.size == 1 ? *item->prediction.text : 0;
        }
        const bool one = letter >= 'A' && letter <= 'Z';
        item->unparsed = !one;
        item->parsed = one ? bif_score_keep(set, (bif_span){&letter, 1}) : (bif_span){"", 0};
        item->score = one && letter == right;
    }
    bif_text_free(&buffer);
    return BIF_OK;
}

const bif_score_task bif_task_seed = {
    .name = "seed",
    .title = "SEED-Bench: generated letters",
    .references = "SEED-Bench.json",
    .rule = "llava: the text is the letter; lmms: its first character; the official ranking by likelihood is another measure",
    .dimension = {"data_type", "question_type"},
    .norms = BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_VLMEVALKIT) | BIF_NORM_BIT(BIF_NORM_LLAVA),
    .usual = BIF_NORM_LLAVA,
    .read = read_seed,
    .score = score_seed,
};
