/* MMBench and other tables of VLMEvalKit with options A, B, ... (its Chinese and Korean translations, SEEDBench_IMG, MMStar). Rows whose
 * index has the same remainder modulo 1,000,000 are one question with its options turned round: circular, it is right when every row is;
 * vanilla looks at the first alone. References: the table (a column `image`, huge, is passed over). Predictions: by index; LLaVA's rows, or
 * a table too. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "eval/choice.h"
#include "eval/tsv.h"

enum { VANILLA = 0 }; /* item->value: the row itself is right */
#define TURN 1000000

static bif_status read_mmbench(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < count; i++) {
        bif_tsv table;
        BIF_TRY(bif_tsv_open(set, paths[i], &table));
        const int index = bif_tsv_column(&table, "index"), answer = bif_tsv_column(&table, "answer");
        const int fine = bif_tsv_column(&table, "category"), lower = bif_tsv_column(&table, "l2-category");
        const int coarse = lower >= 0 ? lower : bif_tsv_column(&table, "L2-category"), split = bif_tsv_column(&table, "split");
        if (index < 0 || answer < 0 || bif_tsv_column(&table, "A") < 0) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:1: no column %s", paths[i],
                             index < 0    ? "index"
                             : answer < 0 ? "answer (of a split without answers?)"
                                          : "A"));
        }
        for (bool more; (st = bif_tsv_row(&table, &more)) == BIF_OK && more;) {
            const bif_span *f = table.fields;
            bif_span id = f[index];
            char *number = bif_span_copy(id), *end = NULL;
            errno = 0;
            const long long value = strtoll(number, &end, 10);
            const bool whole = end != number && *end == '\0' && value >= 0 && errno == 0;
            free(number);
            if (!whole || f[answer].size != 1 || *f[answer].text < 'A' || *f[answer].text > 'Z') {
                BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:%lld: the %s is '%.*s', not %s", paths[i], (long long)table.row_line,
                                 whole ? "answer" : "index", (int)((whole ? f[answer] : id).size < 40 ? (whole ? f[answer] : id).size : 40),
                                 (whole ? f[answer] : id).text, whole ? "a letter" : "a number"));
            }
            bif_options *options = bif_score_take(set, sizeof *options);
            for (char letter = 'A'; letter <= 'Z'; letter++) {
                const char name[2] = {letter, '\0'};
                const int column = bif_tsv_column(&table, name);
                if (column >= 0 && !bif_tsv_is_nothing(f[column])) {
                    options->text[letter - 'A'] = f[column];
                }
            }
            bif_span *answers = bif_score_take(set, sizeof *answers);
            *answers = f[answer];
            bif_score_item *item = bif_score_add(set, id);
            item->cluster = bif_score_text(set, "%lld", value % TURN);
            item->extra = value >= TURN;
            item->answers = answers;
            item->answer_count = 1;
            item->more = options;
            item->group[0] = coarse >= 0 && !bif_tsv_is_nothing(f[coarse]) ? f[coarse] : (bif_span){0};
            item->group[1] = fine >= 0 && !bif_tsv_is_nothing(f[fine]) ? f[fine] : (bif_span){0};
            item->group[2] = split >= 0 && !bif_tsv_is_nothing(f[split]) ? f[split] : (bif_span){0};
        }
        BIF_TRY(st);
    }
    int64_t *rows = bif_score_take(set, sizeof *rows);
    *rows = set->count;
    set->own = rows;
done:
    return st;
}

static bif_status score_mmbench(bif_score_set *set, bif_norm norm)
{
    bif_text_buffer buffer = {0};
    bool *right = bif_malloc((size_t)set->clusters * sizeof *right);
    for (int32_t c = 0; c < set->clusters; c++) {
        right[c] = true;
    }
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        const bif_options *options = item->more;
        const char letter = norm == BIF_NORM_LMMS ? bif_choice_lmms(&buffer, bif_text_strip(item->prediction), options)
                                                  : bif_choice_vlmevalkit(&buffer, item->prediction, options);
        item->unparsed = letter == 0 || letter == 'Z';
        item->parsed = letter != 0 ? bif_score_keep(set, (bif_span){&letter, 1}) : (bif_span){"", 0};
        item->score = letter == *item->answers[0].text && item->line > 0;
        item->value[VANILLA] = item->score;
        right[item->cluster_index] = right[item->cluster_index] && item->score > 0.5;
    }
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        item->score = item->extra ? item->score : right[item->cluster_index];
    }
    if (set->count < *(const int64_t *)set->own) {
        bif_score_note(set, "%lld of the %lld rows: turns that are left out count as right in circular, which is too high then",
                       (long long)set->count, (long long)*(const int64_t *)set->own);
    }
    free(right);
    bif_text_free(&buffer);
    return BIF_OK;
}

static void summarise_mmbench(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    double right = 0.0;
    int64_t count = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        right += item->extra ? 0.0 : weight[i] * item->value[VANILLA];
        count += item->extra ? 0 : weight[i];
    }
    bif_score_means(set, "circular", weight, out);
    bif_metric_add(out, 100.0 * right / (double)count, count, "vanilla");
}

const bif_score_task bif_task_mmbench = {
    .name = "mmbench",
    .title = "MMBench and other multiple choice in VLMEvalKit's tables: circular and vanilla accuracy",
    .references = "MMBench_DEV_EN.tsv (or _CN, _KO, SEEDBench_IMG.tsv, MMStar.tsv, ...) with answers",
    .rule = "circular: right when every turn of the options is; no judge: an answer that names no option is wrong",
    .dimension = {"l2-category", "category", "split"},
    .norms = BIF_NORM_BIT(BIF_NORM_LMMS) | BIF_NORM_BIT(BIF_NORM_VLMEVALKIT),
    .usual = BIF_NORM_VLMEVALKIT,
    .read = read_mmbench,
    .score = score_mmbench,
    .summarise = summarise_mmbench,
};
