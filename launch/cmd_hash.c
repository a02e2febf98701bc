/* bifocal data hash */
#include <dirent.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "data/hash_run.h"
#include "data/pool.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/team.h"

static const char help[] =
    "usage: bifocal data hash [options] SHARD...\n"
    "       bifocal data hash [--threads N] [--only NAMES] [--max-pixels N] PICTURE...\n\n"
    "Of shards (*.h5, or folders of them): hashes of every image and caption as columns beside each shard (SHARD.columns/NAME.npy), from\n"
    "which dedup, prune and stats work. Columns that exist and were made in the same way stay. Images that cannot be decoded are listed\n"
    "in SHARD.columns/hash-errors.jsonl. Runs on several ranks under mpirun, a shard at a time each.\n"
    "Of pictures (JPEG, PNG, WebP, or folders of them): one JSON object a line on standard output, in the order of the command line; one\n"
    "that cannot be decoded has an \"error\", and the exit code is 65. One rank does it.\n\n"
    "  ahash, dhash, phash, whash                    every bit as imagehash 4.3.2 computes it\n"
    "  ahash_imagededup, dhash_..., phash_..., whash_...   the same of imagededup 0.3.3\n"
    "  pdq, pdq_quality, pdq_dihedral                PDQ as its C++ reference; the last: the picture turned and flipped too\n"
    "  pixels                                        128 bits of the decoded pixels\n"
    "  mean_std                                      mean and deviation of grey\n"
    "  caption_hash, minhash (of shards)             the caption normalised, and 128 values of its runs of 5 characters\n\n"
    "  --only NAMES       these alone, with commas between (default: all; of pictures all but pixels, mean_std and pdq_dihedral)\n"
    "  --overwrite        of shards: make columns again that exist\n"
    "  --threads N        CPU threads of a rank (default: the cores, divided among the ranks of a node)\n"
    "  --memory-mib N     of shards: memory of a rank (default 2048); fewer threads are used where pictures are large, and those that\n"
    "                     one thread could not decode in it are errors\n"
    "  --max-pixels N     width x height of a picture; larger ones are errors (default 178956970)\n"
    "  --quiet            only warnings\n";

#define FILE_CAP ((size_t)1 << 30)

typedef struct {
    bif_hash_options hash;
    int64_t threads;
    char **path;
    size_t paths;
    bif_pool pool;
    const bif_team *team;
    double totals[5]; /* images, bad, samples, columns, kept */
} job;

/* ---- shards ---- */

static bif_status hash_unit(void *argument, int64_t unit)
{
    job *j = argument;
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    bif_hash_result result = {0};
    char *where = bif_format("shard %" PRId64 " of %" PRId64, unit + 1, j->pool.shards);
    BIF_TRY(bif_pool_shard(&j->pool, unit, &shard));
    BIF_TRY(bif_hash_shard(shard, &j->hash, j->team, where, &result));
    const int64_t counts[] = {result.images, result.bad_images, result.samples, result.columns, result.kept};
    for (int i = 0; i < 5; i++) {
        j->totals[i] += (double)counts[i];
    }
    bif_info("%s, %s: %d columns written, %d kept; %" PRId64 " images, %" PRId64 " bad; %" PRId64 " captions", where,
             bif_path_base(j->pool.path[unit]), result.columns, result.kept, result.images, result.bad_images, result.samples);
done:
    bif_shard_close(shard);
    free(where);
    return st;
}

static bif_status hash_shards(void *context, const bif_team *team, bif_comm *comm)
{
    job *j = context;
    bif_status st = BIF_OK;
    (void)comm;
    j->team = team;
    BIF_TRY(team->agree(team->context, bif_pool_open((const char *const *)j->path, j->paths, &j->pool)));
    BIF_TRY(team->share(team->context, j->pool.shards, hash_unit, j));
    team->sum(team->context, j->totals, 5);
    bif_info("%" PRId64 " shards: %.0f columns written, %.0f kept; %.0f images, %.0f of them bad; %.0f captions", j->pool.shards,
             j->totals[3], j->totals[4], j->totals[0], j->totals[1], j->totals[2]);
done:
    st = bif_pool_verdict(&j->pool, st);
    bif_pool_close(&j->pool);
    return st;
}

/* ---- pictures ---- */

typedef struct {
    const job *job;
    char **line; /* [paths] ready to be printed */
    size_t next, printed, bad;
    pthread_mutex_t lock;
} pictures;

/* A name as JSON can hold it: bytes that are no UTF-8 become U+FFFD. */
static json_t *name_json(const char *name)
{
    const size_t size = strlen(name);
    char *text = bif_malloc(size * 3 + 1);
    size_t length = 0;
    for (size_t at = 0; at < size;) {
        const size_t good = bif_utf8_check(name + at, size - at);
        memcpy(text + length, name + at, good);
        length += good;
        at += good;
        if (at < size) {
            length += bif_utf8_encode(0xfffd, text + length);
            at++;
        }
    }
    json_t *value = json_stringn(text, length);
    free(text);
    return value;
}

static json_t *hex64(uint64_t value)
{
    return json_sprintf("%016" PRIx64, value);
}

static json_t *hex_bytes(const uint8_t *bytes)
{
    char text[BIF_PDQ_BYTES * 2 + 1];
    for (int i = 0; i < BIF_PDQ_BYTES; i++) {
        snprintf(text + i * 2, 3, "%02x", bytes[i]);
    }
    return json_string(text);
}

static json_t *value_json(int number, const bif_hashes *h)
{
    json_t *list = NULL;
    switch (number) {
    case BIF_HASH_PIXELS: return json_sprintf("%016" PRIx64 "%016" PRIx64, h->pixels[0], h->pixels[1]);
    case BIF_HASH_PDQ: return hex_bytes(h->pdq.form[0]);
    case BIF_HASH_PDQ_QUALITY: return json_integer(h->pdq.quality);
    case BIF_HASH_PDQ_DIHEDRAL:
        list = json_array();
        for (int i = 0; i < BIF_PDQ_FORMS; i++) {
            json_array_append_new(list, hex_bytes(h->pdq.form[i]));
        }
        return list;
    case BIF_HASH_MEAN_STD: return json_pack("[f, f]", (double)h->mean_std[0], (double)h->mean_std[1]);
    default:
        return hex64(number < BIF_HASH_IMAGEDEDUP ? h->imagehash[number - BIF_HASH_IMAGEHASH]
                                                  : h->imagededup[number - BIF_HASH_IMAGEDEDUP]);
    }
}

static char *picture_line(const job *j, const char *path, bif_resize_memo *memo, bool *good)
{
    static const int order[] = {BIF_HASH_IMAGEHASH + BIF_HASH_A,  BIF_HASH_IMAGEHASH + BIF_HASH_D,  BIF_HASH_IMAGEHASH + BIF_HASH_P,
                                BIF_HASH_IMAGEHASH + BIF_HASH_W,  BIF_HASH_IMAGEDEDUP + BIF_HASH_D, BIF_HASH_IMAGEDEDUP + BIF_HASH_P,
                                BIF_HASH_PDQ,                     BIF_HASH_PDQ_QUALITY,             BIF_HASH_IMAGEDEDUP + BIF_HASH_A,
                                BIF_HASH_IMAGEDEDUP + BIF_HASH_W, BIF_HASH_PDQ_DIHEDRAL,            BIF_HASH_PIXELS,
                                BIF_HASH_MEAN_STD};
    char *bytes = NULL;
    size_t size = 0;
    bif_hashes hashes;
    const bif_image_limits limits = {.max_pixels = j->hash.max_pixels};
    json_t *line = json_object();
    json_object_set_new(line, "file", name_json(path));
    *good = bif_file_read(path, FILE_CAP, &bytes, &size) == BIF_OK &&
            bif_hash_picture(path, bytes, size, &limits, j->hash.set, memo, &hashes) == BIF_OK;
    if (*good) {
        json_object_set_new(line, "width", json_integer(hashes.width));
        json_object_set_new(line, "height", json_integer(hashes.height));
        for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
            if ((j->hash.set >> order[i] & 1) != 0) {
                json_object_set_new(line, bif_hash_column(order[i]).name, value_json(order[i], &hashes));
            }
        }
    } else {
        json_object_set_new(line, "error", name_json(bif_error_message()));
    }
    free(bytes);
    char *text = json_dumps(line, 0);
    json_decref(line);
    return text;
}

static void *hash_pictures(void *argument)
{
    pictures *p = argument;
    bif_resize_memo *memo = bif_resize_memo_new();
    pthread_mutex_lock(&p->lock);
    while (p->next < p->job->paths) {
        const size_t i = p->next++;
        bool good = false;
        pthread_mutex_unlock(&p->lock);
        char *line = picture_line(p->job, p->job->path[i], memo, &good);
        pthread_mutex_lock(&p->lock);
        p->line[i] = line;
        p->bad += !good;
        for (; p->printed < p->job->paths && p->line[p->printed] != NULL; p->printed++) {
            puts(p->line[p->printed]);
            free(p->line[p->printed]);
        }
    }
    pthread_mutex_unlock(&p->lock);
    bif_resize_memo_free(memo);
    return NULL;
}

static bif_status print_pictures(const job *j)
{
    bif_status st = BIF_OK;
    cpu_set_t cpus;
    const int cores = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    const size_t threads = j->threads > 0 ? (size_t)j->threads : (size_t)cores;
    pictures p = {.job = j, .line = bif_calloc(j->paths + 1, sizeof(char *)), .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t *thread = bif_calloc(threads, sizeof *thread);
    size_t started = 0;
    while (started + 1 < threads && started + 1 < j->paths && pthread_create(&thread[started], NULL, hash_pictures, &p) == 0) {
        started++;
    }
    hash_pictures(&p);
    for (size_t i = 0; i < started; i++) {
        pthread_join(thread[i], NULL);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        st = bif_fail(BIF_ERR_IO, "standard output cannot be written");
    } else if (p.bad > 0) {
        st = bif_fail(BIF_ERR_DATA, "%zu of %zu pictures cannot be decoded; see \"error\" in their lines", p.bad, j->paths);
    }
    free(thread);
    free(p.line);
    return st;
}

/* ---- the command line ---- */

static bool ends_with(const char *name, const char *end)
{
    const size_t a = strlen(name), b = strlen(end);
    return a >= b && strcasecmp(name + a - b, end) == 0;
}

static bool is_picture_name(const char *name)
{
    return ends_with(name, ".jpg") || ends_with(name, ".jpeg") || ends_with(name, ".png") || ends_with(name, ".webp");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A folder holds shards, or else pictures, which are added by name. */
static bif_status add_folder(job *j, const char *folder, bool *shards)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return bif_fail(BIF_ERR_IO, "cannot open the folder '%s'", folder);
    }
    const size_t first = j->paths;
    *shards = false;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        *shards = *shards || ends_with(entry->d_name, ".h5");
        if (is_picture_name(entry->d_name)) {
            j->path = bif_realloc(j->path, j->paths + 1, sizeof *j->path);
            j->path[j->paths++] = bif_path_join(folder, entry->d_name);
        }
    }
    closedir(dir);
    if (!*shards && j->paths == first) {
        return bif_fail(BIF_ERR_USAGE, "'%s' holds neither shards (*.h5) nor pictures (.jpg, .jpeg, .png, .webp)", folder);
    }
    if (*shards) {
        while (j->paths > first) {
            free(j->path[--j->paths]);
        }
        j->path = bif_realloc(j->path, j->paths + 1, sizeof *j->path);
        j->path[j->paths++] = bif_strdup(folder);
    } else {
        qsort(j->path + first, j->paths - first, sizeof *j->path, by_name);
    }
    return BIF_OK;
}

static bif_status add_paths(job *j, char **names, int count, bool *shards)
{
    bif_status st = BIF_OK;
    for (int i = 0; i < count; i++) {
        bool shard = ends_with(names[i], ".h5");
        if (bif_is_folder(names[i])) {
            BIF_TRY(add_folder(j, names[i], &shard));
        } else {
            j->path = bif_realloc(j->path, j->paths + 1, sizeof *j->path);
            j->path[j->paths++] = bif_strdup(names[i]);
        }
        if (i > 0 && shard != *shards) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "data hash: '%s' and '%s': name shards or pictures, not both", names[i - 1], names[i]));
        }
        *shards = shard;
    }
done:
    return st;
}

bif_status bif_cmd_data_hash(int argc, char **argv)
{
    enum { ONLY = 1, OVERWRITE, THREADS, MEMORY, PIXELS, QUIET, HELP };
    static const struct option options[] = {{"only", required_argument, NULL, ONLY},
                                            {"overwrite", no_argument, NULL, OVERWRITE},
                                            {"threads", required_argument, NULL, THREADS},
                                            {"memory-mib", required_argument, NULL, MEMORY},
                                            {"max-pixels", required_argument, NULL, PIXELS},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    job j = {.hash = {.memory = (int64_t)2048 << 20}};
    bool shards = false, memory = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case ONLY: BIF_TRY(bif_hash_set_by_names(optarg, &j.hash.set)); break;
        case OVERWRITE: j.hash.overwrite = true; break;
        case THREADS: BIF_TRY(bif_option_number("threads", optarg, 1, &j.threads)); break;
        case MEMORY:
            BIF_TRY(bif_option_number("memory-mib", optarg, 1, &j.hash.memory));
            j.hash.memory = j.hash.memory < INT64_MAX >> 20 ? j.hash.memory << 20 : INT64_MAX;
            memory = true;
            break;
        case PIXELS: BIF_TRY(bif_option_number("max-pixels", optarg, 1, &j.hash.max_pixels)); break;
        case QUIET: bif_log_set_quiet(1); break;
        case HELP: fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data hash: wrong option; see bifocal data hash --help"));
        }
    }
    if (optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data hash: name shards or pictures; see bifocal data hash --help"));
    }
    if (j.threads > 4096) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data hash: --threads must be 1 to 4096"));
    }
    BIF_TRY(add_paths(&j, argv + optind, argc - optind, &shards));
    if (shards) {
        j.hash.set = j.hash.set != 0 ? j.hash.set : BIF_HASH_OF_ALL;
        BIF_TRY(bif_with_team((int)j.threads, hash_shards, &j));
        goto done;
    }
    if (j.hash.overwrite || memory || (j.hash.set & ~BIF_HASH_OF_IMAGES) != 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data hash: --overwrite, --memory-mib, caption_hash and minhash are for shards, not for pictures"));
    }
    if (bif_launch_rank() > 0) { /* under mpirun the first rank prints, once */
        goto done;
    }
    if (j.hash.set == 0) {
        j.hash.set = BIF_HASH_OF_IMAGES & ~(1u << BIF_HASH_PIXELS | 1u << BIF_HASH_MEAN_STD | 1u << BIF_HASH_PDQ_DIHEDRAL);
    }
    BIF_TRY(print_pictures(&j));
done:
    for (size_t i = 0; i < j.paths; i++) {
        free(j.path[i]);
    }
    free(j.path);
    return st;
}
