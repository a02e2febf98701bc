/* bifocal data pack | verify */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/pack.h"
#include "data/shard.h"
#include "launch/commands.h"

static const char pack_help[] =
    "usage: bifocal data pack --input FILE --out FOLDER --prefix NAME [--image-root FOLDER] [options]\n\n"
    "Packs images with their captions or conversations into HDF5 shards FOLDER/NAME-00000.h5, ...\n"
    "FILE is a JSON array or JSON lines of {id, image, conversations | caption}, or CSV with the columns image and caption.\n"
    "Records that cannot be used are listed in FOLDER/NAME-errors.jsonl with the reason.\n\n"
    "  --input FILE           the records\n"
    "  --out FOLDER           where the shards go; made if missing\n"
    "  --prefix NAME          start of their names\n"
    "  --image-root FOLDER    images are looked up below it, never outside\n"
    "  --format FORMAT        auto (default: by name and first character), json, jsonl or csv\n"
    "  --source NAME          name of the source stored with each sample (default: the base name of FILE)\n"
    "  --max-shard-mib N      image bytes of a shard in MiB (default 1024)\n"
    "  --max-samples N        samples of a shard (default 0: no limit)\n"
    "  --max-image-mib N      encoded bytes of one image in MiB; larger ones are bad records (default 64)\n"
    "  --max-pixels N         width x height of one image (default 178956970)\n"
    "  --max-bad-share X      the pack fails, and leaves no shard, when more than this part is bad (default 0.05)\n"
    "  --strict               the first bad record fails the pack\n"
    "  --overwrite            replace the shards of this prefix\n"
    "  --quiet                only warnings\n";

static bif_status parse_i64(const char *verb, const char *name, const char *text, int64_t low, int64_t high, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        return bif_fail(BIF_ERR_USAGE, "%s: --%s must be an integer from %lld to %lld, not '%s'", verb, name, (long long)low,
                        (long long)high, text);
    }
    *out = value;
    return BIF_OK;
}

static bif_status parse_share(const char *text, double *out)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0 && value <= 1)) {
        return bif_fail(BIF_ERR_USAGE, "data pack: --max-bad-share must be a number from 0 to 1, not '%s'", text);
    }
    *out = value;
    return BIF_OK;
}

bif_status bif_cmd_data_pack(int argc, char **argv)
{
    enum { INPUT = 1, OUT, PREFIX, ROOT, FORMAT, SOURCE, SHARD_MIB, SAMPLES, IMAGE_MIB, PIXELS, SHARE, STRICT, OVERWRITE, QUIET, HELP };
    static const struct option options[] = {{"input", required_argument, NULL, INPUT},
                                            {"out", required_argument, NULL, OUT},
                                            {"prefix", required_argument, NULL, PREFIX},
                                            {"image-root", required_argument, NULL, ROOT},
                                            {"format", required_argument, NULL, FORMAT},
                                            {"source", required_argument, NULL, SOURCE},
                                            {"max-shard-mib", required_argument, NULL, SHARD_MIB},
                                            {"max-samples", required_argument, NULL, SAMPLES},
                                            {"max-image-mib", required_argument, NULL, IMAGE_MIB},
                                            {"max-pixels", required_argument, NULL, PIXELS},
                                            {"max-bad-share", required_argument, NULL, SHARE},
                                            {"strict", no_argument, NULL, STRICT},
                                            {"overwrite", no_argument, NULL, OVERWRITE},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    static const char name[] = "data pack";
    const int64_t most_mib = (int64_t)1 << 40;
    bif_status st = BIF_OK;
    bif_pack_options o = bif_pack_defaults();
    bif_pack_result result;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case INPUT: o.input = optarg; break;
        case OUT: o.out = optarg; break;
        case PREFIX: o.prefix = optarg; break;
        case ROOT: o.image_root = optarg; break;
        case FORMAT: BIF_TRY(bif_records_format_by_name(optarg, &o.format)); break;
        case SOURCE: o.source = optarg; break;
        case SHARD_MIB:
            BIF_TRY(parse_i64(name, "max-shard-mib", optarg, 1, most_mib, &o.max_shard_bytes));
            o.max_shard_bytes <<= 20;
            break;
        case SAMPLES: BIF_TRY(parse_i64(name, "max-samples", optarg, 0, INT64_MAX, &o.max_samples)); break;
        case IMAGE_MIB:
            BIF_TRY(parse_i64(name, "max-image-mib", optarg, 1, most_mib, &o.max_image_bytes));
            o.max_image_bytes <<= 20;
            break;
        case PIXELS: BIF_TRY(parse_i64(name, "max-pixels", optarg, 1, INT64_MAX, &o.image_limits.max_pixels)); break;
        case SHARE: BIF_TRY(parse_share(optarg, &o.max_bad_share)); break;
        case STRICT: o.strict = true; break;
        case OVERWRITE: o.overwrite = true; break;
        case QUIET: bif_log_set_quiet(1); break;
        case HELP: fputs(pack_help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data pack: wrong option; see bifocal data pack --help"));
        }
    }
    if (optind != argc || o.input == NULL || o.out == NULL || o.prefix == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data pack: --input, --out and --prefix are needed, and nothing else without a name; "
                                        "see bifocal data pack --help"));
    }
    BIF_TRY(bif_pack(&o, &result));
    if (result.bad > 0) {
        bif_warn("%lld of %lld records are bad; see %s/%s-errors.jsonl", (long long)result.bad, (long long)result.records, o.out, o.prefix);
    }
    bif_info("packed %lld samples (%lld text only, %lld image only) and %lld images (%.1f MB) into %lld shards %s/%s-*.h5",
             (long long)result.samples, (long long)result.text_only, (long long)result.image_only, (long long)result.images,
             (double)result.image_bytes / 1e6, (long long)result.shards, o.out, o.prefix);
done:
    return st;
}

static const char verify_help[] =
    "usage: bifocal data verify SHARD...\n\n"
    "Reads shards back: structure, offsets, the checksum and id of every image, the digest of the whole, and every text as JSON.\n"
    "A SHARD is a file (*.h5) or a folder of them. Prints one line a file; the exit code is 65 when one is bad.\n";

typedef struct {
    int64_t shards, bad;
    bif_status worst;
} verified;

/* In a child: the HDF5 library itself may crash on a hostile file, and the other shards are to be read all the same. */
static bif_status verify_in_child(const char *path)
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        return bif_fail_errno(errno, "cannot start a process to verify '%s'", path);
    }
    if (child == 0) {
        int64_t bad = 0;
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        bif_status st = bif_shard_verify(path, &bad);
        printf("%s: %s\n", path, st == BIF_OK ? "good" : bif_error_message());
        fflush(stdout);
        _exit((int)st);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status)) {
        return (bif_status)WEXITSTATUS(status);
    }
    printf("%s: reading it crashed (signal %d); the file is damaged or hostile\n", path, WTERMSIG(status));
    return BIF_ERR_DATA;
}

static bif_status verify_one(void *context, const char *path)
{
    verified *v = context;
    const bif_status one = verify_in_child(path);
    v->shards++;
    if (one != BIF_OK) {
        v->bad++;
        v->worst = v->worst == BIF_OK || v->worst == BIF_ERR_DATA ? one : v->worst;
    }
    return BIF_OK;
}

bif_status bif_cmd_data_verify(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    bif_status st = BIF_OK;
    verified v = {0};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(verify_help, stdout);
            goto done;
        }
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data verify: wrong option; see bifocal data verify --help"));
    }
    if (optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data verify: name at least one shard; see bifocal data verify --help"));
    }
    for (int i = optind; i < argc; i++) {
        BIF_TRY(bif_shard_each(argv[i], verify_one, &v));
    }
    if (v.bad > 0) {
        st = bif_fail(v.worst, "%lld of %lld shards are not good", (long long)v.bad, (long long)v.shards);
    }
done:
    return st;
}
