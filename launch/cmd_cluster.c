/* bifocal data cluster */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/diversity.h"
#include "eval/cluster.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/team.h"

static const char cluster_help[] =
    "usage: bifocal data cluster --clusters K [--name NAME] [--centroids FILE] SHARD...\n"
    "       bifocal data cluster --assign FILE [--name NAME] SHARD...\n\n"
    "Spherical k-means over the embeddings that bifocal data embed wrote as columns. Writes the columns NAME.cluster (number of the nearest\n"
    "centroid; 4294967295 where there is no embedding) and NAME.cluster_distance (1 - cosine to it). Ranks (mpirun) share the shards; the\n"
    "result does not depend on their number, on threads or on the order of the shards.\n\n"
    "  --name NAME            of the embeddings (clip)\n"
    "  --of WHAT              image (default), or text: then the columns are NAME.text_cluster and NAME.text_cluster_distance\n"
    "  --clusters K           how many\n"
    "  --iterations N         at most (20); it ends before when nothing moves\n"
    "  --seed N               of the draws (0)\n"
    "  --centroids FILE       writes the centroids, f32 [K, width], as .npy\n"
    "  --assign FILE          takes centroids from a file like that; rows are only assigned\n"
    "  --overwrite            replaces columns that were made in another way\n"
    "  --memory-mib N         of a rank; what would take more is refused before the work (2048)\n"
    "  --device NAME          cpu, cuda, cuda:N or auto (cpu)\n"
    "  --threads N            CPU threads of a rank (0 = the cores divided by the ranks of the node)\n"
    "  --json FILE            the result and the sizes of the clusters as JSON\n"
    "  --quiet                only warnings\n";

typedef struct {
    const char *device, *summary;
    char **shards;
    int shard_count, threads;
    bif_cluster_options options;
} arguments;

static bif_status report(const arguments *a, const bif_cluster_result *r)
{
    const bif_spread spread = bif_spread_of(r->size, r->clusters);
    json_t *sizes = json_array();
    printf("%lld %s in %lld of %lld clusters, mean distance %.6f (%lld without an embedding)\n", (long long)r->rows,
           a->options.text ? "texts" : "pictures", (long long)r->used, (long long)r->clusters, r->distance, (long long)r->empty_rows);
    if (a->options.assign == NULL) {
        printf("%lld passes, %s; %lld times a cluster ran empty\n", (long long)r->iterations,
               r->settled ? "settled" : "not settled", (long long)r->refilled);
    }
    printf("as even as %.1f clusters of one size; the largest %s %.2f %%\n", spread.effective,
           r->clusters > 100 ? "1 % of the clusters hold" : "cluster holds", 100.0 * spread.top_share);
    printf("%lld columns written, %lld were there\n", (long long)r->columns, (long long)r->present);
    for (int64_t k = 0; k < r->clusters; k++) {
        json_array_append_new(sizes, json_integer(r->size[k]));
    }
    return bif_save_summary(a->summary, json_pack("{s:I,s:I,s:I,s:I,s:I,s:b,s:I,s:f,s:f,s:f,s:f,s:o}", "rows", (json_int_t)r->rows, "empty_rows",
                                                  (json_int_t)r->empty_rows, "clusters", (json_int_t)r->clusters, "used", (json_int_t)r->used,
                                                  "iterations", (json_int_t)r->iterations, "settled", (int)r->settled, "refilled",
                                                  (json_int_t)r->refilled, "distance", r->distance, "entropy", spread.entropy, "effective",
                                                  spread.effective, "top_share", spread.top_share, "sizes", sizes));
}

static bif_status run(void *context, const bif_team *team, bif_comm *comm)
{
    bif_status st = BIF_OK;
    const arguments *a = context;
    bif_pool pool = {0};
    bif_device *device = NULL;
    bif_cluster_result r = {0};
    st = bif_pool_open((const char *const *)a->shards, (size_t)a->shard_count, &pool);
    st = st == BIF_OK ? bif_comm_open_device(comm, a->device, team->threads, &device) : st;
    BIF_TRY(team->agree(team->context, st));
    BIF_TRY(bif_cluster(&pool, team, device, &a->options, &r));
    BIF_TRY(team->agree(team->context, team->rank == 0 ? report(a, &r) : BIF_OK));
done:
    free(r.size);
    bif_device_close(device);
    st = bif_pool_verdict(&pool, st);
    bif_pool_close(&pool);
    return st;
}

bif_status bif_cmd_data_cluster(int argc, char **argv)
{
    enum { NAME = 1, OF, CLUSTERS, ITERATIONS, SEED, CENTROIDS, ASSIGN, OVERWRITE, MEMORY, DEVICE, THREADS, JSON, QUIET, HELP };
    static const struct option options[] = {{"name", required_argument, NULL, NAME},
                                            {"of", required_argument, NULL, OF},
                                            {"clusters", required_argument, NULL, CLUSTERS},
                                            {"iterations", required_argument, NULL, ITERATIONS},
                                            {"seed", required_argument, NULL, SEED},
                                            {"centroids", required_argument, NULL, CENTROIDS},
                                            {"assign", required_argument, NULL, ASSIGN},
                                            {"overwrite", no_argument, NULL, OVERWRITE},
                                            {"memory-mib", required_argument, NULL, MEMORY},
                                            {"device", required_argument, NULL, DEVICE},
                                            {"threads", required_argument, NULL, THREADS},
                                            {"json", required_argument, NULL, JSON},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    int64_t threads = 0, seed = 0, memory = 2048;
    arguments a = {.device = "cpu", .options = {.name = "clip", .iterations = 20}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case NAME: a.options.name = optarg; break;
        case OF:
            a.options.text = strcmp(optarg, "text") == 0;
            if (!a.options.text && strcmp(optarg, "image") != 0) {
                BIF_TRY(bif_fail(BIF_ERR_USAGE, "--of: '%s' is neither image nor text", optarg));
            }
            break;
        case CLUSTERS: BIF_TRY(bif_option_number("clusters", optarg, 1, &a.options.clusters)); break;
        case ITERATIONS: BIF_TRY(bif_option_number("iterations", optarg, 1, &a.options.iterations)); break;
        case SEED: BIF_TRY(bif_option_number("seed", optarg, 0, &seed)); break;
        case CENTROIDS: a.options.save = optarg; break;
        case ASSIGN: a.options.assign = optarg; break;
        case OVERWRITE: a.options.overwrite = true; break;
        case MEMORY: BIF_TRY(bif_option_number("memory-mib", optarg, 1, &memory)); break;
        case DEVICE: a.device = optarg; break;
        case THREADS: BIF_TRY(bif_option_number("threads", optarg, 0, &threads)); break;
        case JSON: a.summary = optarg; break;
        case QUIET: bif_log_set_quiet(1); break;
        case HELP: fputs(cluster_help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data cluster: wrong option; see bifocal data cluster --help"));
        }
    }
    if (optind >= argc || (a.options.clusters > 0) == (a.options.assign != NULL)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data cluster: name shards, and either --clusters or --assign; see bifocal data cluster --help"));
    }
    BIF_TRY(bif_option_column("name", a.options.name));
    BIF_TRY(bif_option_writable("centroids", a.options.save));
    BIF_TRY(bif_option_writable("json", a.summary));
    a.options.seed = (uint64_t)seed;
    a.options.memory = memory > INT64_MAX >> 20 ? INT64_MAX : memory << 20;
    a.threads = (int)threads;
    a.shards = argv + optind;
    a.shard_count = argc - optind;
    BIF_TRY(bif_with_team(a.threads, run, &a));
done:
    return st;
}
