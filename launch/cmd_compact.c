/* bifocal data compact: new shards of what a selection keeps. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "data/compact.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/team.h"

static const char help[] =
    "usage: bifocal data compact --out FOLDER --prefix NAME [--from SEL] [options] SHARD...\n"
    "       mpirun -n RANKS bifocal data compact ...\n\n"
    "Writes the samples that a selection keeps into new shards FOLDER/NAME-00000.h5, ... in the order of the shards as they are named. Pictures\n"
    "are copied byte for byte, each once a shard, and columns (hashes, embeddings) come along where all shards that a new one is made of have them.\n"
    "A sample that is kept k times is written k times, with the ids ID-0 to ID-(k-1). The shards that are read are not changed. Every new shard is\n"
    "read back; they get their names together at the end. Samples that cannot be copied are listed in FOLDER/NAME-errors.jsonl with the reason.\n"
    "Any number of ranks writes the same bytes; each holds the tables of one shard that it reads and the tables and columns of one that it writes.\n\n"
    "  --out FOLDER         where the new shards go; made if missing\n"
    "  --prefix NAME        start of their names\n"
    "  --from SEL           the selection; default: everything is kept\n"
    "  --max-shard-mib N    image bytes of a new shard in MiB (1024)\n"
    "  --max-samples N      samples of a new shard (0: no limit)\n"
    "  --quiet              only warnings\n";

static bif_status run(void *context, const bif_team *team, bif_comm *comm)
{
    (void)comm;
    const bif_compact_options *o = context;
    bif_compact_result r = {0};
    const bif_status st = bif_compact(o, team, &r);
    if (st != BIF_OK || team->rank > 0) {
        return st;
    }
    if (r.bad > 0) {
        bif_warn("%" PRId64 " of %" PRId64 " kept samples could not be copied; see %s/%s-errors.jsonl", r.bad, r.kept, o->out, o->prefix);
    }
    if (r.left_out > 0) {
        bif_warn("%" PRId64 " columns of new shards were left out: not all shards that these are made of have them alike", r.left_out);
    }
    bif_info("%" PRId64 " samples and %" PRId64 " images (%.1f MB) in %" PRId64 " shards %s/%s-*.h5", r.samples, r.images,
             (double)r.image_bytes / 1e6, r.shards, o->out, o->prefix);
    return BIF_OK;
}

bif_status bif_cmd_data_compact(int argc, char **argv)
{
    static const struct option options[] = {{"out", required_argument, NULL, 'o'},
                                            {"prefix", required_argument, NULL, 'p'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"max-shard-mib", required_argument, NULL, 'm'},
                                            {"max-samples", required_argument, NULL, 's'},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    int64_t mib = 1024;
    bif_compact_options o = {0};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'o': o.out = optarg; break;
        case 'p': o.prefix = optarg; break;
        case 'f': o.from = optarg; break;
        case 'm': BIF_TRY(bif_option_number("max-shard-mib", optarg, 1, &mib)); break;
        case 's': BIF_TRY(bif_option_number("max-samples", optarg, 0, &o.max_samples)); break;
        case 'q': bif_log_set_quiet(1); break;
        case 'h': fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data compact: wrong option; see bifocal data compact --help"));
        }
    }
    BIF_TRY(bif_option_need("data compact", "out", o.out));
    BIF_TRY(bif_option_need("data compact", "prefix", o.prefix));
    if (optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data compact: name the shards; see bifocal data compact --help"));
    }
    o.max_shard_bytes = mib < INT64_MAX >> 20 ? mib << 20 : INT64_MAX;
    o.shards = (const char *const *)(argv + optind);
    o.shard_count = (size_t)(argc - optind);
    st = bif_with_team(0, run, &o);
done:
    return st;
}
