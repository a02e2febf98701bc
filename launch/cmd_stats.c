/* bifocal data stats */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "eval/data_page.h"
#include "eval/vendi.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/team.h"

static const char help[] =
    "usage: bifocal data stats [options] SHARD...\n\n"
    "What is in shards, taken together: samples, images, sizes, formats, sources, words, languages, duplicates. With a selection, also what\n"
    "each of its steps left. A SHARD is a file (*.h5) or a folder of them.\n\n"
    "  --from FILE.sel      a selection made of these shards (data dedup, prune, balance ...)\n"
    "  --html FILE          one page with all numbers, and for every reason some samples that were dropped beside those they duplicate\n"
    "  --examples N         samples of each reason on the page (default 12)\n"
    "  --tokenizer PATH     count tokens, and how much of the vocabulary occurs\n"
    "  --concepts FILE      concepts (a JSON list of strings, or one a line) and how many captions each occurs in\n"
    "  --fold-case          concepts match whatever the case\n"
    "  --embeddings NAME    Vendi score of the column NAME.image (data embed), and the spread over NAME.cluster (data cluster)\n"
    "  --memory-mib N       memory that may be used (default 2048)\n"
    "  --json               as JSON\n";

typedef struct {
    const char *from, *html, *tokenizer, *concepts, *embeddings;
    const char *const *paths;
    size_t count;
    int64_t examples, memory;
    bool json, fold_case;
} arguments;

/* The score of the images of each stage. */
static bif_status score_stages(const bif_pool *pool, const bif_team *team, bif_data_stats *stats, const char *name)
{
    bif_status st = BIF_OK;
    uint16_t *times = bif_malloc((size_t)pool->samples * sizeof *times);
    char *column = bif_format("%s.image", name);
    stats->vendi = bif_calloc((size_t)stats->stages, sizeof *stats->vendi);
    for (int64_t k = 0; k < stats->stages; k++) {
        bif_vendi vendi = {0};
        for (int64_t i = 0; i < pool->samples; i++) {
            times[i] = stats->level[i] >= k;
        }
        BIF_TRY(bif_vendi_column(pool, team, column, BIF_COLUMN_OF_IMAGE, k == 0 ? NULL : times, &vendi));
        stats->vendi[k] = vendi.score;
    }
done:
    free(column);
    free(times);
    return st;
}

static void print(const arguments *a, const bif_data_stats *stats)
{
    if (a->json) {
        json_t *value = bif_data_stats_json(stats);
        json_dumpf(value, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(value);
    } else {
        char *text = bif_data_stats_text(stats);
        fputs(text, stdout);
        free(text);
    }
}

/* Of whether all shards have NAME.cluster, the first one speaks: a column that is missing further on is an error. */
static bif_status has_clusters(const bif_pool *pool, const char *name, bool *out)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_column *column = NULL;
    char *cluster = bif_format("%s.cluster", name);
    BIF_TRY(bif_pool_shard(pool, 0, &shard));
    BIF_TRY(bif_column_open(shard, cluster, &column));
    *out = column != NULL;
done:
    bif_column_close(column);
    bif_shard_close(shard);
    free(cluster);
    return st;
}

static bif_status run(const arguments *a)
{
    bif_status st = BIF_OK;
    bif_pool pool = {0};
    bif_selection *selection = NULL;
    bif_tokenizer *tokenizer = NULL;
    bif_concepts *concepts = NULL;
    bif_data_stats stats = {0};
    bool clusters = false;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const bif_team alone = bif_team_alone(cores > 0 ? (int)cores : 1);
    BIF_TRY(bif_option_writable("html", a->html));
    BIF_TRY(bif_pool_open(a->paths, a->count, &pool));
    if (a->from != NULL) {
        BIF_TRY(bif_selection_read(a->from, &selection));
        BIF_TRY(bif_selection_check(selection, a->from, &pool));
    }
    if (a->tokenizer != NULL) {
        BIF_TRY(bif_tokenizer_load(a->tokenizer, &tokenizer));
    }
    if (a->concepts != NULL) {
        BIF_TRY(bif_concepts_open(a->concepts, a->fold_case, a->memory, &concepts));
    }
    if (a->embeddings != NULL) {
        BIF_TRY(has_clusters(&pool, a->embeddings, &clusters));
    }
    const bif_stats_options options = {.pool = &pool,
                                       .selection = selection,
                                       .tokenizer = tokenizer,
                                       .concepts = concepts,
                                       .clusters = clusters ? a->embeddings : NULL,
                                       .memory = a->memory};
    BIF_TRY(bif_data_stats_read(&options, &stats));
    if (a->embeddings != NULL) {
        BIF_TRY(score_stages(&pool, &alone, &stats, a->embeddings));
    }
    if (a->html != NULL) {
        const bif_data_page page = {.stats = &stats, .pool = &pool, .selection = selection, .examples = a->examples};
        BIF_TRY(bif_data_page_write(&page, a->html));
    }
    print(a, &stats);
done:
    bif_data_stats_free(&stats);
    bif_concepts_free(concepts);
    bif_tokenizer_free(tokenizer);
    bif_selection_free(selection);
    st = bif_pool_verdict(&pool, st);
    bif_pool_close(&pool);
    return st;
}

bif_status bif_cmd_data_stats(int argc, char **argv)
{
    enum { FROM = 1, HTML, EXAMPLES, TOKENIZER, CONCEPTS, FOLD, EMBEDDINGS, MEMORY, AS_JSON, HELP };
    static const struct option options[] = {{"from", required_argument, NULL, FROM},
                                            {"html", required_argument, NULL, HTML},
                                            {"examples", required_argument, NULL, EXAMPLES},
                                            {"tokenizer", required_argument, NULL, TOKENIZER},
                                            {"concepts", required_argument, NULL, CONCEPTS},
                                            {"fold-case", no_argument, NULL, FOLD},
                                            {"embeddings", required_argument, NULL, EMBEDDINGS},
                                            {"memory-mib", required_argument, NULL, MEMORY},
                                            {"json", no_argument, NULL, AS_JSON},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    arguments a = {.examples = -1, .memory = 2048};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case FROM: a.from = optarg; break;
        case HTML: a.html = optarg; break;
        case EXAMPLES: BIF_TRY(bif_option_number("examples", optarg, 0, &a.examples)); break;
        case TOKENIZER: a.tokenizer = optarg; break;
        case CONCEPTS: a.concepts = optarg; break;
        case FOLD: a.fold_case = true; break;
        case EMBEDDINGS:
            BIF_TRY(bif_option_column("embeddings", optarg));
            a.embeddings = optarg;
            break;
        case MEMORY: BIF_TRY(bif_option_number("memory-mib", optarg, 1, &a.memory)); break;
        case AS_JSON: a.json = true; break;
        case HELP: fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data stats: wrong option; see bifocal data stats --help"));
        }
    }
    if (optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data stats: name at least one shard; see bifocal data stats --help"));
    }
    if ((a.fold_case && a.concepts == NULL) || (a.examples >= 0 && (a.html == NULL || a.from == NULL))) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data stats: --fold-case is for --concepts, --examples for --html with --from"));
    }
    a.examples = a.examples < 0 ? 12 : a.examples;
    if (a.memory > INT64_MAX >> 20 || a.examples > 1000) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data stats: --memory-mib or --examples is beyond all measure"));
    }
    a.memory <<= 20;
    a.paths = (const char *const *)argv + optind;
    a.count = (size_t)(argc - optind);
    BIF_TRY(run(&a));
done:
    return st;
}
