/* bifocal data import-column */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "data/column_import.h"
#include "launch/commands.h"
#include "launch/options.h"

static const char help[] =
    "usage: bifocal data import-column NAME --scores FILE SHARD...\n\n"
    "Scores that another program made (aesthetics, watermarks, a language model's opinion) as a column beside the shards, for data prune.\n"
    "FILE.npy: one floating number a row, of the shards in the order given (of a folder by name). Else JSON lines: \"id\" (the\n"
    "source's) or \"uid\" (32 hex digits, as data uids counts) and a number, or null, under \"value\". Samples that no line names have\n"
    "no number (NaN).\n\n"
    "  --scores FILE    the numbers\n"
    "  --key KEY        of JSON lines: where the number stands (value)\n"
    "  --images         the rows of a .npy are images, not samples\n"
    "  --overwrite      replaces a column of that name that was made in another way\n"
    "  --memory-mib N   memory (2048); more is refused\n"
    "  --quiet          only warnings\n";

bif_status bif_cmd_data_import_column(int argc, char **argv)
{
    enum { SCORES = 1, KEY, IMAGES, OVERWRITE, MEMORY, QUIET, HELP };
    static const struct option options[] = {{"scores", required_argument, NULL, SCORES},
                                            {"key", required_argument, NULL, KEY},
                                            {"images", no_argument, NULL, IMAGES},
                                            {"overwrite", no_argument, NULL, OVERWRITE},
                                            {"memory-mib", required_argument, NULL, MEMORY},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    bif_column_import_result r;
    bif_column_import_options o = {.key = "value", .of = BIF_COLUMN_OF_SAMPLE, .memory = (int64_t)2048 << 20};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case SCORES: o.scores = optarg; break;
        case KEY: o.key = optarg; break;
        case IMAGES: o.of = BIF_COLUMN_OF_IMAGE; break;
        case OVERWRITE: o.overwrite = true; break;
        case MEMORY:
            BIF_TRY(bif_option_number("memory-mib", optarg, 1, &o.memory));
            o.memory = o.memory > (int64_t)1 << 40 ? INT64_MAX : o.memory << 20;
            break;
        case QUIET: bif_log_set_quiet(1); break;
        case HELP: fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data import-column: wrong option; see bifocal data import-column --help"));
        }
    }
    if (argc - optind < 2 || o.scores == NULL) {
        BIF_TRY(
            bif_fail(BIF_ERR_USAGE, "data import-column: a name, --scores and shards are needed; see bifocal data import-column --help"));
    }
    o.name = argv[optind++];
    BIF_TRY(bif_option_column("NAME", o.name));
    BIF_TRY(bif_column_import((const char *const *)(argv + optind), (size_t)(argc - optind), &o, &r));
    bif_info("column %s: %lld of %lld rows have a number", o.name, (long long)r.matched, (long long)r.rows);
    if (r.unused > 0) {
        bif_warn("%lld of %lld lines name no sample of these shards", (long long)r.unused, (long long)r.lines);
    }
done:
    return st;
}
