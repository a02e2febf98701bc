/* What bifocal data balance is asked for (cmd_balance.c), and its tables (balance_print.c). */
#pragma once
#include "data/balance.h"

typedef struct {
    const char *what, *from, *out, *concepts, *counts, *counts_from;
    const char *of_concepts, *of_groups; /* an option given that is only for these */
    bool fold_case, dry_run, json, alpha, weighted;
    bif_balance_by_concepts by;
    bif_balance_by_groups groups;
    bif_balance_wish *wish;
    const char *const *shards;
    size_t shard_count;
} bif_balance_arguments;

void bif_balance_print_concepts(const bif_balance_arguments *a, const bif_concepts *concepts, const bif_balance_concepts_result *result);
void bif_balance_print_groups(const bif_balance_arguments *a, const bif_balance_groups_result *result);
