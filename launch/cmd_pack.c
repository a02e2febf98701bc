/* bifocal data pack */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/pack.h"
#include "launch/commands.h"
#include "launch/team.h"

static const char pack_help[] =
    "usage: bifocal data pack --input SOURCE... --out FOLDER --prefix NAME [--image-root FOLDER] [options]\n\n"
    "Packs images with their captions or conversations into HDF5 shards FOLDER/NAME-00000.h5, ...  A SOURCE is\n"
    "  a file of records     a JSON array or JSON lines of {id, image, conversations | caption}, or CSV with the columns image and caption\n"
    "  webdataset tars       as img2dataset writes them (KEY.jpg|jpeg|png|webp, KEY.txt, KEY.json); several tars, or folders of them;\n"
    "                        NNNNN_stats.json beside NNNNN.tar is compared with what was read. The caption is KEY.txt's, where that is\n"
    "                        missing or empty the \"caption\" of KEY.json; \"conversations\" of KEY.json stand for both\n"
    "  a folder              pictures anywhere below it, each with a .txt of the same name\n"
    "Records that cannot be used are listed in FOLDER/NAME-errors.jsonl with the reason. Runs under mpirun too: every rank packs parts of\n"
    "its own (tars, or records for one shard), and the shards are the same for any number of ranks. After a failure or a kill there are none.\n\n"
    "  --input SOURCE         the records (- is standard input), tars or folder; further tars may follow\n"
    "  --out FOLDER           where the shards go; made if missing\n"
    "  --prefix NAME          start of their names\n"
    "  --image-root FOLDER    images that records name are looked up below it, never outside\n"
    "  --format FORMAT        auto (default: by name and first character), json, jsonl, csv, webdataset or folder\n"
    "  --source NAME          name of the source stored with each sample (default: the base name of SOURCE; of tars that of their folder)\n"
    "  --resize-short N       pictures whose shorter side is above N pixels become N on that side (upright, Pillow's bicubic) and JPEG;\n"
    "                         all others stay as they are, byte for byte (default 0: all)\n"
    "  --quality Q            of that JPEG, 1 to 100 (default 95)\n"
    "  --image-only           of tars and folders, take pictures without a caption too (default: bad records)\n"
    "  --max-shard-mib N      image bytes of a shard in MiB (default 1024); a tar fills shards of its own\n"
    "  --max-samples N        samples of a shard (default 0: no limit)\n"
    "  --max-image-mib N      encoded bytes of one image in MiB; larger ones are bad records (default 64)\n"
    "  --max-pixels N         width x height of one image (default 178956970)\n"
    "  --max-bad-share X      the pack fails, and leaves no shard, when more than this part is bad (default 0.05)\n"
    "  --min-success X        the same when less than this part of the counts in the tars' statistics was downloaded or packed (default 0.1)\n"
    "  --strict               the first bad record fails the pack\n"
    "  --append               go on with the next free number behind the shards of this prefix, which stay untouched\n"
    "  --skip-known           with --append: leave out samples whose source, id and text (without an id also pictures) are there already\n"
    "  --overwrite            replace the shards of this prefix; their columns (hashes, embeddings, captions) go with them\n"
    "  --threads N            of a rank, to read and resize (default 0: the cores divided by the ranks of the node)\n"
    "  --quiet                only warnings\n";

static bif_status parse_i64(const char *name, const char *text, int64_t low, int64_t high, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        return bif_fail(BIF_ERR_USAGE, "data pack: --%s must be an integer from %lld to %lld, not '%s'", name, (long long)low,
                        (long long)high, text);
    }
    *out = value;
    return BIF_OK;
}

static bif_status parse_share(const char *name, const char *text, double *out)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0 && value <= 1)) {
        return bif_fail(BIF_ERR_USAGE, "data pack: --%s must be a number from 0 to 1, not '%s'", name, text);
    }
    *out = value;
    return BIF_OK;
}

static bif_status parse_format(const char *text, bif_pack_options *o)
{
    if (strcmp(text, "webdataset") == 0 || strcmp(text, "folder") == 0) {
        o->kind = text[0] == 'w' ? BIF_PACK_WEBDATASET : BIF_PACK_FOLDER;
        return BIF_OK;
    }
    const bif_status st = bif_records_format_by_name(text, &o->format);
    o->kind = o->format == BIF_RECORDS_AUTO ? BIF_PACK_AUTO : BIF_PACK_RECORDS;
    return st == BIF_OK ? st : bif_fail(BIF_ERR_USAGE, "'%s' is not a format; use auto, json, jsonl, csv, webdataset or folder", text);
}

typedef struct {
    bif_pack_options options;
    bif_pack_result result;
} job;

static bif_status run(void *context, const bif_team *team, bif_comm *comm)
{
    job *j = context;
    const bif_pack_options *o = &j->options;
    (void)comm;
    const bif_status st = bif_pack(o, team, &j->result);
    if (st != BIF_OK || team->rank > 0) {
        return st;
    }
    const bif_pack_result *r = &j->result;
    if (r->bad > 0) {
        bif_warn("%lld of %lld records are bad; see %s/%s-errors.jsonl", (long long)r->bad, (long long)r->records, o->out, o->prefix);
    }
    char *resized = o->resize_short > 0 ? bif_format(", %lld of them resized", (long long)r->resized) : bif_strdup("");
    char *known = o->skip_known ? bif_format("; %lld were there already", (long long)r->known) : bif_strdup("");
    bif_info("packed %lld samples (%lld text only, %lld image only) and %lld images (%.1f MB%s) into %lld shards %s/%s-*.h5%s",
             (long long)r->samples, (long long)r->text_only, (long long)r->image_only, (long long)r->images, (double)r->image_bytes / 1e6,
             resized, (long long)r->shards, o->out, o->prefix, known);
    free(known);
    free(resized);
    return st;
}

static bif_status run_job(job *j, int threads)
{
    cpu_set_t cores;
    if (bif_launched()) {
        return bif_with_team(threads, run, j);
    }
    if (threads == 0) {
        threads = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    }
    const bif_team alone = bif_team_alone(threads);
    return run(j, &alone, NULL);
}

bif_status bif_cmd_data_pack(int argc, char **argv)
{
    enum {
        INPUT = 1,
        OUT,
        PREFIX,
        ROOT,
        FORMAT,
        SOURCE,
        RESIZE,
        QUALITY,
        IMAGE_ONLY,
        SHARD_MIB,
        SAMPLES,
        IMAGE_MIB,
        PIXELS,
        SHARE,
        SUCCESS,
        STRICT,
        APPEND,
        KNOWN,
        OVERWRITE,
        THREADS,
        QUIET,
        HELP
    };
    static const struct option options[] = {{"input", required_argument, NULL, INPUT},
                                            {"out", required_argument, NULL, OUT},
                                            {"prefix", required_argument, NULL, PREFIX},
                                            {"image-root", required_argument, NULL, ROOT},
                                            {"format", required_argument, NULL, FORMAT},
                                            {"source", required_argument, NULL, SOURCE},
                                            {"resize-short", required_argument, NULL, RESIZE},
                                            {"quality", required_argument, NULL, QUALITY},
                                            {"image-only", no_argument, NULL, IMAGE_ONLY},
                                            {"max-shard-mib", required_argument, NULL, SHARD_MIB},
                                            {"max-samples", required_argument, NULL, SAMPLES},
                                            {"max-image-mib", required_argument, NULL, IMAGE_MIB},
                                            {"max-pixels", required_argument, NULL, PIXELS},
                                            {"max-bad-share", required_argument, NULL, SHARE},
                                            {"min-success", required_argument, NULL, SUCCESS},
                                            {"strict", no_argument, NULL, STRICT},
                                            {"append", no_argument, NULL, APPEND},
                                            {"skip-known", no_argument, NULL, KNOWN},
                                            {"overwrite", no_argument, NULL, OVERWRITE},
                                            {"threads", required_argument, NULL, THREADS},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    const int64_t most_mib = (int64_t)1 << 40;
    bif_status st = BIF_OK;
    job j = {.options = bif_pack_defaults()};
    bif_pack_options *o = &j.options;
    int64_t quality = o->quality, threads = 0;
    const char **more = bif_calloc((size_t)argc + 1, sizeof *more);
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case INPUT:
            if (o->input == NULL) {
                o->input = optarg;
            } else {
                more[o->more_count++] = optarg;
            }
            break;
        case OUT: o->out = optarg; break;
        case PREFIX: o->prefix = optarg; break;
        case ROOT: o->image_root = optarg; break;
        case FORMAT: BIF_TRY(parse_format(optarg, o)); break;
        case SOURCE: o->source = optarg; break;
        case RESIZE: BIF_TRY(parse_i64("resize-short", optarg, 0, 65535, &o->resize_short)); break;
        case QUALITY: BIF_TRY(parse_i64("quality", optarg, 1, 100, &quality)); break;
        case IMAGE_ONLY: o->image_only = true; break;
        case SHARD_MIB:
            BIF_TRY(parse_i64("max-shard-mib", optarg, 1, most_mib, &o->max_shard_bytes));
            o->max_shard_bytes <<= 20;
            break;
        case SAMPLES: BIF_TRY(parse_i64("max-samples", optarg, 0, INT64_MAX, &o->max_samples)); break;
        case IMAGE_MIB:
            BIF_TRY(parse_i64("max-image-mib", optarg, 1, most_mib, &o->max_image_bytes));
            o->max_image_bytes <<= 20;
            break;
        case PIXELS: BIF_TRY(parse_i64("max-pixels", optarg, 1, INT64_MAX, &o->image_limits.max_pixels)); break;
        case SHARE: BIF_TRY(parse_share("max-bad-share", optarg, &o->max_bad_share)); break;
        case SUCCESS: BIF_TRY(parse_share("min-success", optarg, &o->min_success)); break;
        case STRICT: o->strict = true; break;
        case APPEND: o->append = true; break;
        case KNOWN: o->skip_known = true; break;
        case OVERWRITE: o->overwrite = true; break;
        case THREADS: BIF_TRY(parse_i64("threads", optarg, 0, 1024, &threads)); break;
        case QUIET: bif_log_set_quiet(1); break;
        case HELP: fputs(pack_help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data pack: wrong option; see bifocal data pack --help"));
        }
    }
    if (o->input == NULL || o->out == NULL || o->prefix == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data pack: --input, --out and --prefix are needed; see bifocal data pack --help"));
    }
    while (optind < argc) {
        more[o->more_count++] = argv[optind++];
    }
    o->more = more;
    o->quality = (int)quality;
    st = run_job(&j, (int)threads);
done:
    free(more);
    return st;
}
