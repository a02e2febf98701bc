#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "launch/balance.h"

enum { SHOWN = 20, SHOWN_JSON = 100 };

typedef struct {
    double before;
    int64_t number;
} row;

static int greatest_first(const void *left, const void *right)
{
    const row *a = left, *b = right;
    return a->before != b->before ? (a->before > b->before ? -1 : 1) : (a->number < b->number ? -1 : a->number > b->number);
}

static void print(json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(value);
}

/* Samples that records of a reason are about: each once, however often it was repeated. */
static int64_t records_of(const bif_balance_outcome *outcome, int reason)
{
    int64_t count = 0;
    for (int64_t i = 0; i < outcome->count; i++) {
        count += outcome->records[i].reason == reason;
    }
    return count;
}

static json_t *dropped(const bif_balance_outcome *outcome, const char *const *reason, int reasons)
{
    json_t *object = json_object();
    for (int r = 0; r < reasons; r++) {
        json_object_set_new(object, reason[r], json_integer(records_of(outcome, r)));
    }
    return object;
}

static void print_outcome(const bif_balance_outcome *outcome, const char *const *reason, int reasons)
{
    printf("%-24s %12lld\n", "before", (long long)outcome->before);
    for (int r = 0; r < reasons; r++) {
        printf("%-24s %12lld\n", reason[r], (long long)records_of(outcome, r));
    }
    printf("%-24s %12lld\n", "after", (long long)outcome->after);
}

void bif_balance_print_concepts(const bif_balance_arguments *a, const bif_concepts *concepts, const bif_balance_concepts_result *result)
{
    const bif_concepts_info info = bif_concepts_describe(concepts);
    const bif_balance_by_concepts *by = &a->by;
    row *order = bif_malloc((size_t)info.entries * sizeof *order);
    int64_t matched = 0, left = 0, above = 0;
    double matches = 0, matches_above = 0;
    for (int64_t e = 0; e < info.entries; e++) {
        const double count = by->counts != NULL ? by->counts[e] : result->pool[e];
        order[e] = (row){result->pool[e], e};
        matched += result->pool[e] > 0;
        left += result->after[e] > 0;
        above += count > result->t;
        matches += result->pool[e];
        matches_above += count > result->t ? result->pool[e] : 0;
    }
    qsort(order, (size_t)info.entries, sizeof *order, greatest_first);
    const int64_t most = a->json ? SHOWN_JSON : SHOWN;
    const int64_t shown = matched < most ? matched : most;
    const double share = matches > 0 ? matches_above / matches : 0;
    json_t *list = json_array();
    if (!a->json && by->count_only) {
        printf("%-24s %12lld\n", "samples", (long long)result->outcome.before);
    } else if (!a->json) {
        print_outcome(&result->outcome, bif_balance_concept_reasons, 2);
        printf("%-24s %12.1f  (over all seeds)\n%-24s %12.6g\n", "mean size", result->expected, "t", result->t);
        printf("%-24s %12lld  (with %.1f %% of the matches)\n", "concepts above t", (long long)above, 100 * share);
        printf("%-24s %12lld\n", "concepts in what stays", (long long)left);
    }
    if (!a->json) {
        printf("%-24s %12lld  (of %lld)\n", "concepts in the pool", (long long)matched, (long long)info.entries);
        printf("\n%-40s %12s %10s %12s\n", "most frequent concepts", "matches", by->count_only ? "" : "p", by->count_only ? "" : "after");
    }
    for (int64_t i = 0; i < shown; i++) {
        const int64_t e = order[i].number;
        size_t size = 0;
        const char *name = bif_concepts_name(concepts, e, &size);
        const double p = by->count_only ? 0 : bif_balance_probability(result->t, by->counts != NULL ? by->counts[e] : result->pool[e]);
        json_t *one = json_pack("{s:s%, s:I}", "name", name, size, "matches", (json_int_t)result->pool[e]);
        if (!by->count_only) {
            json_object_set_new(one, "p", json_real(p));
            json_object_set_new(one, "after", json_integer((json_int_t)result->after[e]));
        }
        json_array_append_new(list, one);
        char *shown_name = bif_utf8_printable(name, size, false);
        if (!a->json && by->count_only) {
            printf("%-40s %12lld\n", shown_name, (long long)result->pool[e]);
        } else if (!a->json) {
            printf("%-40s %12lld %10.6f %12lld\n", shown_name, (long long)result->pool[e], p, (long long)result->after[e]);
        }
        free(shown_name);
    }
    if (a->json) {
        json_t *root = json_pack("{s:s, s:I}", "by", "concepts", "before", (json_int_t)result->outcome.before);
        if (!by->count_only) {
            json_object_set_new(root, "dropped", dropped(&result->outcome, bif_balance_concept_reasons, 2));
            json_object_set_new(root, "after", json_integer(result->outcome.after));
            json_object_set_new(root, "mean_size", json_real(result->expected));
            json_object_set_new(root, "t", json_real(result->t));
            json_object_set_new(root, "above_t", json_integer(above));
            json_object_set_new(root, "matches_above_t", json_real(share));
        }
        json_object_set_new(root, "entries",
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "listed", (json_int_t)info.listed, "empty",
                                      (json_int_t)info.empty, "duplicate", (json_int_t)info.duplicate, "unmatchable",
                                      (json_int_t)info.unmatchable, "used", (json_int_t)info.entries, "in_pool", (json_int_t)matched,
                                      "in_what_stays", (json_int_t)left));
        json_object_set_new(root, "concepts", json_incref(list));
        print(root);
    }
    json_decref(list);
    free(order);
}

void bif_balance_print_groups(const bif_balance_arguments *a, const bif_balance_groups_result *result)
{
    if (a->json) {
        json_t *list = json_array();
        for (int64_t g = 0; g < result->groups; g++) {
            char *name = bif_utf8_spelled(result->group[g].name, strlen(result->group[g].name)); /* sources of a shard are any bytes */
            json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "name", name, "before", (json_int_t)result->group[g].before, "after",
                                                  (json_int_t)result->group[g].after));
            free(name);
        }
        print(json_pack("{s:s, s:I, s:o, s:I, s:I, s:o}", "by", a->what, "before", (json_int_t)result->outcome.before, "changed",
                        dropped(&result->outcome, bif_balance_group_reasons, 3), "after", (json_int_t)result->outcome.after,
                        "without_group", (json_int_t)result->ungrouped, "groups", list));
        return;
    }
    print_outcome(&result->outcome, bif_balance_group_reasons, 3);
    row *order = bif_malloc((size_t)result->groups * sizeof *order + 1);
    for (int64_t g = 0; g < result->groups; g++) {
        order[g] = (row){(double)result->group[g].before, g};
    }
    qsort(order, (size_t)result->groups, sizeof *order, greatest_first);
    printf("\n%-40s %12s %9s %12s %9s\n", a->what, "before", "share", "after", "share");
    for (int64_t i = 0; i < result->groups && i < SHOWN; i++) {
        const bif_balance_group *g = &result->group[order[i].number];
        char *name = bif_utf8_printable(g->name, strlen(g->name), false);
        printf("%-40s %12lld %8.2f%% %12lld %8.2f%%\n", name, (long long)g->before,
               100.0 * (double)g->before / (double)result->outcome.before, (long long)g->after,
               result->outcome.after > 0 ? 100.0 * (double)g->after / (double)result->outcome.after : 0.0);
        free(name);
    }
    if (result->groups > SHOWN) {
        printf("and %lld more\n", (long long)(result->groups - SHOWN));
    }
    free(order);
}
