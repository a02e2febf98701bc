/* bifocal data balance */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "data/balance.h"
#include "launch/balance.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/team.h"

static const char help[] =
    "usage: bifocal data balance [--from IN.sel] --out OUT.sel --by concepts --concepts FILE (--t T | --size N) [options] SHARD...\n"
    "       bifocal data balance [--from IN.sel] --out OUT.sel --by cluster|source|language [options] SHARD...\n\n"
    "Drops samples of what there is too much of. A SHARD is a file (*.h5) or a folder of them. One run is one step of the selection;\n"
    "balances compose through --from. Who stays is drawn by (seed, the sample's id, the concept): ranks and order of shards do not matter.\n\n"
    "  --by WHAT              concepts: MetaCLIP's balance over a list of them. cluster, source, language: so many of each group\n"
    "  --from IN.sel          begin with what this selection keeps (default: everything)\n"
    "  --out OUT.sel          the selection with this step added\n"
    "  --size N               so many samples are to stay. concepts: solves for t. Groups: equal quotas, or by --alpha\n"
    "  --seed N               of the draws (default 0)\n"
    "  --keep-unmatched       keep samples without any concept, or without a group; they are dropped else\n"
    "  --dry-run              print what would stay; write nothing\n"
    "  --memory-mib N         memory of a rank (default 2048); what takes more is refused with what it needs\n"
    "  --json                 the table as JSON, with every group\n"
    "  --quiet                only warnings\n"
    "concepts: a sample stays if any concept in its caption, with count matches in the pool, draws below t / max(count, t)\n"
    "  --concepts FILE        one a line, or a JSON array of strings in a *.json (MetaCLIP's metadata.json)\n"
    "  --t T                  MetaCLIP's: 20000 for 400 million of 1.6 billion\n"
    "  --mean                 --size is that of the mean over seeds: t does not depend on the seed, the size varies as draws do. Else the\n"
    "                         choice itself has --size samples\n"
    "  --fold-case            case does not count; MetaCLIP's matching is exact\n"
    "  --caption-column NAME  captions from the text column NAME, or caption-NAME; where it has none, the shard's own\n"
    "  --counts FILE          write the matches of each concept: JSON for a *.json, else lines of name, tab, count. Without --t and\n"
    "                         --size only this is done\n"
    "  --counts-from FILE     counts of a greater pool instead of this one's\n"
    "groups:\n"
    "  --column NAME          cluster: default clip.cluster, of pictures (a sample is with its first). language: a text column of\n"
    "                         samples; else the script of the caption's letters (Latn, Hani, ...)\n"
    "  --alpha A              with --size: shares as members^A (0: equal, 1: as they are; default 0, or 1 with --weight)\n"
    "  --weight NAME=W        without --size: W times as many as there are (0.5 keeps half, 2 repeats each); with --size: W times the\n"
    "                         share. NAME *: all that are not named. Repeatable\n"
    "  --count NAME=N         N of this group, repeated if there are fewer. Repeatable\n"
    "  --cap N                at most N of a group that no --count names\n"
    "  --max-repeat R         with --size: a sample up to R times where its share asks for more (default 1)\n";

static bif_status wish(const char *option, const char *text, bif_balance_wish *out)
{
    const char *equals = strrchr(text, '=');
    bif_status st = BIF_OK;
    *out = (bif_balance_wish){.weight = 1, .count = -1};
    if (equals == NULL || equals[1] == '\0') {
        return bif_fail(BIF_ERR_USAGE, "data balance: --%s is NAME=NUMBER, not '%s'", option, text);
    }
    if (strcmp(option, "count") == 0) {
        BIF_TRY(bif_option_number(option, equals + 1, 0, &out->count));
        if (out->count > (int64_t)1 << 48) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "data balance: --count %s: at most 2^48", text));
        }
    } else {
        BIF_TRY(bif_option_real(option, equals + 1, &out->weight));
        if (out->weight < 0 || out->weight > 65535) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "data balance: --weight %s: from 0 to 65535", text));
        }
    }
    out->name = bif_format("%.*s", (int)(equals - text), text);
done:
    return st;
}

static bif_status add_wish(const char *option, const char *text, bif_balance_arguments *a)
{
    bif_balance_wish one;
    const bif_status st = wish(option, text, &one);
    if (st != BIF_OK) {
        return st;
    }
    for (int64_t i = 0; i < a->groups.wishes; i++) {
        if (strcmp(a->wish[i].name, one.name) == 0) {
            free((char *)one.name);
            return bif_fail(BIF_ERR_USAGE, "data balance: --%s %s: this group was named before", option, text);
        }
    }
    a->wish[a->groups.wishes++] = one;
    a->weighted = a->weighted || one.count < 0;
    return BIF_OK;
}

static bif_status check_concepts(bif_balance_arguments *a)
{
    if (a->concepts == NULL) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --by concepts needs --concepts FILE");
    }
    if (a->of_groups != NULL) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --%s is for groups, not for --by concepts", a->of_groups);
    }
    if (a->by.t > 0 && a->by.size > 0) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --t or --size, not both");
    }
    a->by.count_only = a->by.t == 0 && a->by.size == 0;
    if (a->by.count_only && (a->out != NULL || (a->counts == NULL && !a->dry_run))) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --by concepts needs --t or --size (or --counts without --out, to count alone)");
    }
    if (a->by.expected && a->by.size == 0) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --mean is about --size");
    }
    return BIF_OK;
}

static bif_status check_groups(bif_balance_arguments *a)
{
    const bool column = a->groups.column != NULL;
    if (a->of_concepts != NULL) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --%s is for --by concepts", a->of_concepts);
    }
    if (strcmp(a->what, "cluster") == 0) {
        a->groups.kind = BIF_GROUP_COLUMN;
        a->groups.column = column ? a->groups.column : "clip.cluster";
    } else if (strcmp(a->what, "language") == 0) {
        a->groups.kind = column ? BIF_GROUP_COLUMN : BIF_GROUP_SCRIPT;
    } else if (strcmp(a->what, "source") == 0 && column) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --by source needs no --column");
    } else if (strcmp(a->what, "source") != 0) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --by '%s' is unknown; there are concepts, cluster, source and language", a->what);
    }
    a->groups.size = a->by.size;
    if (a->groups.size == 0 && (a->alpha || a->groups.max_repeat > 0)) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --%s goes with --size", a->alpha ? "alpha" : "max-repeat");
    }
    if (a->groups.size == 0 && a->groups.cap == 0 && a->groups.wishes == 0) {
        return bif_fail(BIF_ERR_USAGE, "data balance: --by %s needs --size, --cap, --weight or --count", a->what);
    }
    a->groups.alpha = a->alpha ? a->groups.alpha : a->weighted ? 1 : 0;
    a->groups.max_repeat = a->groups.max_repeat > 0 ? a->groups.max_repeat : 1;
    return BIF_OK;
}

static bif_status check(bif_balance_arguments *a)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_option_need("data balance", "by", a->what));
    BIF_TRY(strcmp(a->what, "concepts") == 0 ? check_concepts(a) : check_groups(a));
    if (a->dry_run ? a->out != NULL : a->out == NULL && !a->by.count_only) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data balance: give --out or --dry-run; see bifocal data balance --help"));
    }
    if (a->shard_count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data balance: name at least one shard; see bifocal data balance --help"));
    }
    BIF_TRY(bif_option_writable("out", a->out));
    BIF_TRY(bif_option_writable("counts", a->counts));
    const char *const read[] = {a->concepts, a->counts_from, a->from};
    BIF_TRY(bif_option_apart("counts", a->counts, read, 3));
    BIF_TRY(bif_option_apart("out", a->out, read, 2)); /* it may take the place of --from */
done:
    return st;
}

/* ---- the work ---- */
static json_t *concept_parameters(const bif_balance_arguments *a, const bif_concepts *concepts, const char *counts_digest,
                                  const bif_balance_concepts_result *result)
{
    char hex[33];
    bif_concepts_digest(concepts, hex);
    json_t *p = json_pack("{s:s, s:s, s:I, s:f, s:I, s:b, s:b}", "by", "concepts", "concepts", hex, "entries",
                          (json_int_t)bif_concepts_describe(concepts).entries, "t", result->t, "seed", (json_int_t)a->by.seed, "fold_case",
                          a->fold_case, "keep_unmatched", a->by.keep_unmatched);
    if (a->by.size > 0) {
        json_object_set_new(p, "size", json_integer(a->by.size));
        json_object_set_new(p, "mean", json_boolean(a->by.expected));
    }
    if (a->by.caption != NULL) {
        json_object_set_new(p, "caption_column", json_string(a->by.caption));
        json_object_set_new(p, "method", json_string(result->outcome.method));
    }
    if (counts_digest[0] != '\0') {
        json_object_set_new(p, "counts", json_string(counts_digest));
    }
    return p;
}

static json_t *group_parameters(const bif_balance_arguments *a, const bif_balance_groups_result *result)
{
    const bif_balance_by_groups *g = &a->groups;
    json_t *p = json_pack("{s:s, s:I, s:b}", "by", a->what, "seed", (json_int_t)g->seed, "keep_unmatched", g->keep_ungrouped);
    if (g->column != NULL) {
        json_object_set_new(p, "column", json_string(g->column));
        json_object_set_new(p, "method", json_string(result->outcome.method));
    }
    if (g->size > 0) {
        json_object_set_new(p, "size", json_integer(g->size));
        json_object_set_new(p, "alpha", json_real(g->alpha));
        json_object_set_new(p, "max_repeat", json_integer(g->max_repeat));
    }
    if (g->cap > 0) {
        json_object_set_new(p, "cap", json_integer(g->cap));
    }
    for (int64_t i = 0; i < g->wishes; i++) {
        const char *kind = g->wish[i].count < 0 ? "weight" : "count";
        if (json_object_get(p, kind) == NULL) {
            json_object_set_new(p, kind, json_object());
        }
        char *name = bif_utf8_spelled(g->wish[i].name, strlen(g->wish[i].name)); /* sources are any bytes */
        json_object_set_new(json_object_get(p, kind), name,
                            g->wish[i].count < 0 ? json_real(g->wish[i].weight) : json_integer(g->wish[i].count));
        free(name);
    }
    return p;
}

/* Rank 0: the step, and the file. */
static bif_status keep(const bif_balance_arguments *a, bif_selection *selection, json_t *parameters, const char *const *reason,
                       int64_t reasons, const bif_balance_outcome *outcome)
{
    bif_selection_add(selection, "balance", parameters, reason, reasons, outcome->records, outcome->count);
    BIF_BUG_IF(bif_selection_kept(selection) != outcome->after, "%lld samples stay, not %lld", (long long)bif_selection_kept(selection),
               (long long)outcome->after);
    json_decref(parameters);
    return a->out != NULL ? bif_selection_write(selection, a->out) : BIF_OK;
}

static bif_status by_concepts(bif_balance_arguments *a, const bif_pool *pool, bif_selection *selection, const bif_team *team)
{
    bif_status st = BIF_OK;
    bif_concepts *concepts = NULL;
    bif_balance_concepts_result result = {0};
    double *counts = NULL;
    char digest[33] = "";
    st = bif_concepts_open(a->concepts, a->fold_case, a->by.memory, &concepts);
    if (st == BIF_OK && a->counts_from != NULL) {
        int64_t lacking = 0;
        counts = bif_malloc((size_t)bif_concepts_describe(concepts).entries * sizeof *counts);
        st = bif_concepts_read_counts(concepts, a->counts_from, counts, &lacking);
        if (st == BIF_OK && lacking > 0 && team->rank == 0) {
            bif_warn("%s: no count of %lld of the %lld concepts; they are taken as 0, so what matches them stays", a->counts_from,
                     (long long)lacking, (long long)bif_concepts_describe(concepts).entries);
        }
        bif_digest_bytes(counts, (size_t)bif_concepts_describe(concepts).entries * sizeof *counts, digest);
    }
    BIF_TRY(team->agree(team->context, st));
    const bif_concepts_info info = bif_concepts_describe(concepts);
    bif_info("%lld concepts (of %lld listed: %lld empty, %lld duplicate, %lld that no caption can match), %.1f MiB",
             (long long)info.entries, (long long)info.listed, (long long)info.empty, (long long)info.duplicate, (long long)info.unmatchable,
             (double)info.bytes / 1048576.0);
    a->by.concepts = concepts;
    a->by.counts = counts;
    a->by.memory -= info.bytes;
    BIF_TRY(bif_balance_concepts(&a->by, pool, selection, team, &result));
    if (team->rank == 0) {
        st = a->counts != NULL ? bif_concepts_write_counts(concepts, a->counts, result.pool) : BIF_OK;
        if (st == BIF_OK && !a->by.count_only) {
            st = keep(a, selection, concept_parameters(a, concepts, digest, &result), bif_balance_concept_reasons, 2, &result.outcome);
        }
        if (st == BIF_OK) {
            bif_balance_print_concepts(a, concepts, &result);
        }
    }
    st = team->agree(team->context, st);
done:
    bif_balance_concepts_free(&result);
    bif_concepts_free(concepts);
    free(counts);
    return st;
}

static bif_status by_groups(const bif_balance_arguments *a, const bif_pool *pool, bif_selection *selection, const bif_team *team)
{
    bif_balance_groups_result result = {0};
    bif_status st = bif_balance_groups(&a->groups, pool, selection, team, &result);
    if (st != BIF_OK) {
        return st;
    }
    if (team->rank == 0) {
        st = keep(a, selection, group_parameters(a, &result), bif_balance_group_reasons, 3, &result.outcome);
        if (st == BIF_OK) {
            bif_balance_print_groups(a, &result);
        }
    }
    bif_balance_groups_free(&result);
    return team->agree(team->context, st);
}

static bif_status run(void *context, const bif_team *team, bif_comm *comm)
{
    (void)comm;
    bif_balance_arguments *a = context;
    bif_status st = BIF_OK;
    bif_pool pool = {0};
    bif_selection *selection = NULL;
    st = bif_pool_open(a->shards, a->shard_count, &pool);
    if (st == BIF_OK && a->from != NULL) {
        st = bif_selection_read(a->from, &selection);
        st = st == BIF_OK ? bif_selection_check(selection, a->from, &pool) : st;
    } else if (st == BIF_OK) {
        selection = bif_selection_new(&pool);
    }
    BIF_TRY(team->agree(team->context, st));
    st = strcmp(a->what, "concepts") == 0 ? by_concepts(a, &pool, selection, team) : by_groups(a, &pool, selection, team);
done:
    bif_selection_free(selection);
    st = bif_pool_verdict(&pool, st);
    bif_pool_close(&pool);
    return st;
}

bif_status bif_cmd_data_balance(int argc, char **argv)
{
    enum { BY = 1, FROM, OUT, SIZE, SEED, UNMATCHED, DRY, MEMORY, JSON, QUIET, CONCEPTS, T, MEAN, FOLD, CAPTION, COUNTS, COUNTS_FROM,
           COLUMN, ALPHA, WISH, CAP, REPEAT, HELP };
    static const struct option options[] = {{"by", required_argument, NULL, BY},
                                            {"from", required_argument, NULL, FROM},
                                            {"out", required_argument, NULL, OUT},
                                            {"size", required_argument, NULL, SIZE},
                                            {"seed", required_argument, NULL, SEED},
                                            {"keep-unmatched", no_argument, NULL, UNMATCHED},
                                            {"dry-run", no_argument, NULL, DRY},
                                            {"memory-mib", required_argument, NULL, MEMORY},
                                            {"json", no_argument, NULL, JSON},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"concepts", required_argument, NULL, CONCEPTS},
                                            {"t", required_argument, NULL, T},
                                            {"mean", no_argument, NULL, MEAN},
                                            {"fold-case", no_argument, NULL, FOLD},
                                            {"caption-column", required_argument, NULL, CAPTION},
                                            {"counts", required_argument, NULL, COUNTS},
                                            {"counts-from", required_argument, NULL, COUNTS_FROM},
                                            {"column", required_argument, NULL, COLUMN},
                                            {"alpha", required_argument, NULL, ALPHA},
                                            {"weight", required_argument, NULL, WISH},
                                            {"count", required_argument, NULL, WISH},
                                            {"cap", required_argument, NULL, CAP},
                                            {"max-repeat", required_argument, NULL, REPEAT},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    int64_t seed = 0, memory = 2048;
    bif_balance_arguments a = {0};
    a.wish = bif_calloc((size_t)argc + 1, sizeof *a.wish);
    a.groups.wish = a.wish;
    int which = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, &which)) != -1;) {
        const char *name = c != '?' ? options[which].name : "";
        a.of_concepts = c >= CONCEPTS && c <= COUNTS_FROM ? name : a.of_concepts;
        a.of_groups = c >= COLUMN && c <= REPEAT ? name : a.of_groups;
        switch (c) {
        case BY: a.what = optarg; break;
        case FROM: a.from = optarg; break;
        case OUT: a.out = optarg; break;
        case SIZE: BIF_TRY(bif_option_number(name, optarg, 1, &a.by.size)); break;
        case SEED: BIF_TRY(bif_option_number(name, optarg, 0, &seed)); break;
        case UNMATCHED: a.by.keep_unmatched = true; break;
        case DRY: a.dry_run = true; break;
        case MEMORY: BIF_TRY(bif_option_number(name, optarg, 1, &memory)); break;
        case JSON: a.json = true; break;
        case QUIET: bif_log_set_quiet(1); break;
        case CONCEPTS: a.concepts = optarg; break;
        case T:
            BIF_TRY(bif_option_real(name, optarg, &a.by.t));
            if (!(a.by.t > 0)) {
                BIF_TRY(bif_fail(BIF_ERR_USAGE, "data balance: --t must be above 0, not %s", optarg));
            }
            break;
        case MEAN: a.by.expected = true; break;
        case FOLD: a.fold_case = true; break;
        case CAPTION:
            BIF_TRY(bif_option_whole_column(name, optarg));
            a.by.caption = optarg;
            break;
        case COUNTS: a.counts = optarg; break;
        case COUNTS_FROM: a.counts_from = optarg; break;
        case COLUMN:
            BIF_TRY(bif_option_whole_column(name, optarg));
            a.groups.column = optarg;
            break;
        case ALPHA:
            BIF_TRY(bif_option_real(name, optarg, &a.groups.alpha));
            if (a.groups.alpha < 0 || a.groups.alpha > 4) {
                BIF_TRY(bif_fail(BIF_ERR_USAGE, "data balance: --alpha must be from 0 to 4, not %s", optarg));
            }
            a.alpha = true;
            break;
        case WISH: BIF_TRY(add_wish(name, optarg, &a)); break;
        case CAP: BIF_TRY(bif_option_number(name, optarg, 1, &a.groups.cap)); break;
        case REPEAT:
            BIF_TRY(bif_option_number(name, optarg, 1, &a.groups.max_repeat));
            if (a.groups.max_repeat > 65535) {
                BIF_TRY(bif_fail(BIF_ERR_USAGE, "data balance: --max-repeat must be from 1 to 65535, not %s", optarg));
            }
            break;
        case HELP: fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data balance: wrong option; see bifocal data balance --help"));
        }
    }
    a.by.seed = a.groups.seed = (uint64_t)seed;
    a.by.memory = a.groups.memory = memory > (int64_t)1 << 40 ? INT64_MAX : memory << 20;
    a.groups.keep_ungrouped = a.by.keep_unmatched;
    a.shards = (const char *const *)(argv + optind);
    a.shard_count = (size_t)(argc - optind);
    BIF_TRY(check(&a));
    BIF_TRY(bif_with_team(1, run, &a));
done:
    for (int64_t i = 0; i < a.groups.wishes; i++) {
        free((char *)a.wish[i].name);
    }
    free(a.wish);
    return st;
}
