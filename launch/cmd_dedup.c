/* bifocal data dedup | leak */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/dedup.h"
#include "data/lsh.h"
#include "eval/semantic.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/pool_samples.h"
#include "launch/team.h"

#define COMPARE_HELP \
    "how pictures are compared (columns by bifocal data hash, but exact):\n" \
    "  --method METHOD      exact (the same file), pixels (the same decoded picture), ahash, dhash, phash, whash (imagehash's rules),\n" \
    "                       ahash_imagededup, dhash_imagededup, phash_imagededup, whash_imagededup, pdq (default), embedding (columns by\n" \
    "                       bifocal data embed and data cluster);\n" \
    "                       or no pictures but captions alone: caption (equal), minhash (near). exact takes broken files for what they are,\n" \
    "                       under the other methods a picture that cannot be decoded matches none\n" \
    "  --distance D         bits of 64 (default 4; imagededup's is 10), of pdq's 256 (default 36; its authors advise 31, which misses 2 %\n" \
    "                       of resized pictures)\n" \
    "  --quality Q          pdq: pictures of a lower PDQ quality match only the same file (50)\n" \
    "  --dihedral           pdq: turned and mirrored pictures match, too\n" \
    "  --name NAME          embedding: of the columns NAME.image and NAME.cluster (clip)\n" \
    "  --cosine C           embedding: of the pictures' embeddings, at least (0.95)\n" \
    "  --all-pairs          embedding: compares every two pictures, not only those of one cluster\n" \
    "  --device NAME        embedding: cpu, cuda, cuda:N or auto (cpu)\n" \
    "how captions are compared (a caption, or the first answer of a conversation, whose other turns must be equal):\n" \
    "  --caption HOW        exact (equal but for case, spaces and punctuation around; default) or minhash (near)\n" \
    "  --jaccard J          minhash: the least share of runs of 5 characters in common, estimated (0.8)\n"

#define COMMON_HELP \
    "  --threads N          CPU threads of a rank (default: the cores of the node divided among its ranks)\n" \
    "  --memory-mib N       memory of a rank (2048); what would not fit is refused with what it needs\n" \
    "  --json               the table as JSON\n" \
    "  --quiet              only warnings\n"

static const char dedup_help[] =
    "usage: bifocal data dedup [--from IN.sel] --out OUT.sel [options] SHARD...\n\n"
    "Drops samples that duplicate another one; OUT.sel names for each the sample that it duplicates and the distance. Nothing is deleted.\n"
    "A SHARD is a file (*.h5) or a folder. The result is the same for any number of ranks and any order of the shards.\n\n"
    "  --from IN.sel        begin with what this selection keeps (default: everything)\n"
    "  --out OUT.sel        the selection with this step added\n" COMPARE_HELP
    "what is a duplicate, and what stays:\n"
    "  --match WHAT         both (default): pictures and captions match, so that several questions or captions of one picture stay;\n"
    "                       image, caption, either. Samples of several pictures match when these can be paired one to one, in any order\n"
    "  --keep RULE          largest (default: most pixels, then bytes), quality (PDQ's quality, then bytes a pixel), longest (caption),\n"
    "                       first (id), hard or easy (farthest from or nearest to the centroid of its cluster: column NAME.cluster_distance)\n"
    "  --group HOW          greedy (default): a sample goes only on account of one that stays; chain: of samples connected by matches one\n"
    "                       stays; any: a sample goes on account of any that comes before it, also one that goes (SemDeDup)\n"
    "and:\n"
    "  --list FILE          the samples that are dropped and what they duplicate, as JSON lines\n" COMMON_HELP;

static const char leak_help[] =
    "usage: bifocal data leak [--from IN.sel] --out OUT.sel --against SHARD [--against SHARD]... [options] SHARD...\n\n"
    "Drops samples that are also in other shards, those of an evaluation say. A SHARD is a file (*.h5) or a folder. The result is the same\n"
    "for any number of ranks and any order of the shards.\n\n"
    "  --from IN.sel        begin with what this selection keeps (default: everything)\n"
    "  --out OUT.sel        the selection with this step added\n"
    "  --against SHARD      what must not be in the samples (repeatable)\n" COMPARE_HELP
    "what is a leak:\n"
    "  --match WHAT         image (default): one of the sample's pictures is one of theirs; caption; both (of one of theirs); either\n"
    "and:\n"
    "  --list FILE          all pairs of a sample and one of theirs that it matches, as JSON lines\n" COMMON_HELP;

typedef struct {
    const char *verb, *from, *out, *list;
    const char **against;
    int against_count;
    char **shards;
    int shard_count;
    const char *method, *caption;
    bif_near_options near; /* resolved */
    bif_dedup_options o;
    int64_t distance, quality, threads;
    bool matched, dihedral, jaccard, json;
    bool embedding, cosine, name; /* --method embedding; the options that are for it were given */
    bif_semantic_options semantic;
    const char *device;
} arguments;

/* ---- the command line ---- */
static arguments defaults(const char *verb, bif_match match)
{
    return (arguments){.verb = verb,
                       .near = {.jaccard = 0.8, .memory = (int64_t)2048 << 20},
                       .o = {.match = match},
                       .semantic = {.name = "clip", .cosine = 0.95},
                       .distance = -1,
                       .quality = -1};
}

/* An option that both have. */
static bif_status common_option(arguments *a, const char *name, const char *value)
{
    bif_status st = BIF_OK;
    if (strcmp(name, "from") == 0) {
        a->from = value;
    } else if (strcmp(name, "out") == 0) {
        a->out = value;
    } else if (strcmp(name, "method") == 0) {
        a->method = value;
    } else if (strcmp(name, "distance") == 0) {
        st = bif_option_number(name, value, 0, &a->distance);
    } else if (strcmp(name, "quality") == 0) {
        st = bif_option_number(name, value, 0, &a->quality);
    } else if (strcmp(name, "dihedral") == 0) {
        a->dihedral = true;
    } else if (strcmp(name, "name") == 0) {
        a->name = true;
        a->semantic.name = value;
        st = bif_option_column(name, value);
    } else if (strcmp(name, "cosine") == 0) {
        a->cosine = true;
        st = bif_option_real(name, value, &a->semantic.cosine);
    } else if (strcmp(name, "all-pairs") == 0) {
        a->semantic.all = true;
    } else if (strcmp(name, "device") == 0) {
        a->device = value;
    } else if (strcmp(name, "caption") == 0) {
        a->caption = value;
    } else if (strcmp(name, "jaccard") == 0) {
        a->jaccard = true;
        st = bif_option_real(name, value, &a->near.jaccard);
    } else if (strcmp(name, "match") == 0) {
        a->matched = true;
        st = bif_match_by_name(value, &a->o.match);
    } else if (strcmp(name, "list") == 0) {
        a->list = value;
    } else if (strcmp(name, "threads") == 0) {
        st = bif_option_number(name, value, 1, &a->threads);
    } else if (strcmp(name, "memory-mib") == 0) {
        st = bif_option_number(name, value, 1, &a->near.memory);
        a->near.memory = a->near.memory > (int64_t)1 << 40 ? INT64_MAX / 2 : a->near.memory << 20;
    } else if (strcmp(name, "json") == 0) {
        a->json = true;
    } else if (strcmp(name, "quiet") == 0) {
        bif_log_set_quiet(1);
    } else {
        st = bif_fail(BIF_ERR_USAGE, "data %s: wrong option; see bifocal data %s --help", a->verb, a->verb);
    }
    return st;
}

static bif_status find_method(arguments *a)
{
    const bool equal = a->method != NULL && strcmp(a->method, "caption") == 0,
               near = a->method != NULL && strcmp(a->method, "minhash") == 0;
    if (equal || near) {
        if ((a->matched && a->o.match != BIF_MATCH_CAPTION) || a->caption != NULL) {
            return bif_fail(BIF_ERR_USAGE, "data %s: --method %s compares captions alone; name a method for pictures and say --caption %s",
                            a->verb, a->method, equal ? "exact" : "minhash");
        }
        a->o.match = BIF_MATCH_CAPTION;
        a->near.minhash = near;
        return BIF_OK;
    }
    if (a->o.match == BIF_MATCH_CAPTION) {
        return a->method == NULL ? BIF_OK
                                 : bif_fail(BIF_ERR_USAGE, "data %s: --match caption does not look at pictures; leave --method %s out",
                                            a->verb, a->method);
    }
    const char *name = a->method != NULL ? a->method : "pdq";
    a->embedding = strcmp(name, "embedding") == 0;
    if (a->embedding) {
        return BIF_OK;
    }
    for (const bif_image_method *m = bif_image_methods; m->name != NULL; m++) {
        if (strcmp(m->name, name) == 0) {
            a->near.images = m;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_USAGE, "data %s: --method '%s' is unknown; see bifocal data %s --help", a->verb, name, a->verb);
}

static bif_status resolve(arguments *a, char **argv, int argc)
{
    bif_status st = BIF_OK;
    a->shards = argv;
    a->shard_count = argc;
    if (a->out == NULL || argc < 1) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data %s: --out and at least one shard are needed; see bifocal data %s --help", a->verb, a->verb));
    }
    if (a->caption != NULL && (a->o.match == BIF_MATCH_IMAGE || (strcmp(a->caption, "exact") != 0 && strcmp(a->caption, "minhash") != 0))) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE,
                         "data %s: --caption is exact or minhash, and not with --match image, which does not look at captions", a->verb));
    }
    a->near.minhash = a->caption != NULL && strcmp(a->caption, "minhash") == 0;
    BIF_TRY(find_method(a));
    const bif_image_method *m = a->near.images;
    const bool pdq = m != NULL && m->words == 4;
    if (a->distance >= 0 && (m == NULL || m->words == 0 || a->distance > 64 * m->words / 2)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data %s: --distance is for hashes of pictures, and at most half their bits (32, of pdq 128)",
                         a->verb));
    }
    if (a->threads > 4096) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data %s: --threads is from 1 to 4096", a->verb));
    }
    if (!pdq && (a->quality >= 0 || a->dihedral)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data %s: --quality and --dihedral are for --method pdq", a->verb));
    }
    if (a->quality > 100) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data %s: --quality is from 0 to 100", a->verb));
    }
    const bool by_cluster = a->o.keep == BIF_KEEP_HARD || a->o.keep == BIF_KEEP_EASY;
    a->o.name = a->semantic.name;
    if (!a->embedding && (a->cosine || (a->name && !by_cluster) || a->semantic.all || a->device != NULL)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data %s: --name, --cosine, --all-pairs and --device are for --method embedding", a->verb));
    }
    if (!(a->semantic.cosine > 0 && a->semantic.cosine <= 1)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data %s: --cosine is above 0 and at most 1", a->verb));
    }
    a->semantic.memory = a->near.memory;
    if (a->jaccard && (!a->near.minhash || !(a->near.jaccard > 0 && a->near.jaccard <= 1))) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data %s: --jaccard is above 0 and at most 1, and for minhash", a->verb));
    }
    a->near.distance = a->distance >= 0 || m == NULL ? (int)a->distance : m->distance;
    a->near.quality = pdq ? (a->quality >= 0 ? (int)a->quality : 50) : 0;
    a->near.dihedral = a->dihedral;
    BIF_TRY(bif_option_writable("out", a->out));
    BIF_TRY(bif_option_writable("list", a->list));
done:
    return st;
}

static json_t *parameters_of(const arguments *a)
{
    const bif_image_method *m = a->near.images;
    json_t *p = json_object();
    json_object_set_new(p, "columns", json_object());
    if (m != NULL) {
        json_object_set_new(p, "method", json_string(m->name));
    }
    if (a->embedding) {
        json_object_set_new(p, "method", json_string("embedding"));
        json_object_set_new(p, "cosine", json_real(a->semantic.cosine));
        json_object_set_new(p, "pairs", json_string(a->semantic.all ? "all" : "of a cluster"));
    }
    if (m != NULL && m->words > 0) {
        json_object_set_new(p, "distance", json_integer(a->near.distance));
    }
    if (m != NULL && m->words == 4) {
        json_object_set_new(p, "quality", json_integer(a->near.quality));
        json_object_set_new(p, "dihedral", json_boolean(a->near.dihedral));
    }
    if (a->o.match != BIF_MATCH_IMAGE) {
        json_object_set_new(p, "caption", json_string(a->near.minhash ? "minhash" : "exact"));
    }
    if (a->near.minhash) {
        const int rows = bif_minhash_rows(a->near.jaccard);
        json_object_set_new(p, "jaccard", json_real(a->near.jaccard));
        json_object_set_new(p, "rows", json_integer(rows));
        json_object_set_new(p, "bands", json_integer(BIF_MINHASH_VALUES / rows));
    }
    return p;
}

/* ---- lists ---- */
typedef struct {
    bif_pool_samples samples, others; /* dedup: of one pool, a shard each */
    bif_writer *writer;
    bif_status status; /* the first failure */
} list;

/* {"sample": {...}, "other": {...}, ..., "value"}; takes `rest` over. */
static void write_line(list *l, int64_t sample, int64_t other, float value, json_t *rest)
{
    bif_status st = l->status;
    json_t *a = NULL, *b = NULL, *line = NULL;
    char *text = NULL;
    BIF_TRY(st);
    BIF_TRY(bif_pool_samples_json(&l->samples, sample, false, &a));
    BIF_TRY(bif_pool_samples_json(&l->others, other, false, &b));
    line = json_pack("{s:O, s:O}", "sample", a, "other", b);
    json_object_update(line, rest);
    json_object_set_new(line, "value", json_real((double)value));
    text = json_dumps(line, JSON_COMPACT);
    BIF_TRY(bif_writer_write(l->writer, text, strlen(text)));
    BIF_TRY(bif_writer_write(l->writer, "\n", 1));
done:
    l->status = st;
    free(text);
    json_decref(line);
    json_decref(a);
    json_decref(b);
    json_decref(rest);
}

static void list_leak(void *context, int64_t sample, int64_t other, bool image, bool caption, float value)
{
    write_line(context, sample, other, value, json_pack("{s:b, s:b}", "image", image, "caption", caption));
}

static void list_dropped(list *l, const bif_selection_step *step)
{
    for (int64_t i = 0; i < step->count; i++) {
        const bif_drop *r = &step->records[i];
        write_line(l, (int64_t)r->sample, (int64_t)r->other, r->value, json_pack("{s:s}", "reason", step->reason[r->reason]));
    }
}

static bif_status end_list(list *l, bif_status st)
{
    if (l->writer != NULL) {
        st = st == BIF_OK ? l->status : st;
        if (st == BIF_OK) {
            st = bif_writer_commit(l->writer);
        } else {
            bif_writer_abandon(l->writer);
        }
    }
    l->writer = NULL;
    bif_pool_samples_close(&l->samples);
    bif_pool_samples_close(&l->others);
    return st;
}

/* ---- the work ---- */
static bif_status end_step(const arguments *a, const bif_selection *selection)
{
    const int64_t last = bif_selection_steps(selection) - 1;
    const bif_status st = bif_selection_write(selection, a->out);
    if (st == BIF_OK && a->json) {
        json_t *step = bif_step_json(selection, last);
        json_dumpf(step, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(step);
    } else if (st == BIF_OK) {
        bif_step_print(selection, last);
    }
    return st;
}

/* On rank 0. */
static bif_status decide(const arguments *a, const bif_pool *pool, const bif_pool *others, bif_selection *selection,
                         const bif_relation *images, const bif_relation *captions, json_t *parameters)
{
    bif_status st = BIF_OK;
    const bool of_images = a->o.match != BIF_MATCH_CAPTION, of_captions = a->o.match != BIF_MATCH_IMAGE;
    list l = {.samples = {.pool = pool}, .others = {.pool = others != NULL ? others : pool}};
    if (a->list != NULL) {
        BIF_TRY(bif_writer_open(a->list, &l.writer));
    }
    if (others == NULL) {
        BIF_TRY(bif_dedup(pool, selection, &a->o, of_images ? images : NULL, of_captions ? captions : NULL, parameters, a->near.memory));
        const bif_selection_step step = bif_selection_get(selection, bif_selection_steps(selection) - 1);
        if (a->list != NULL) {
            list_dropped(&l, &step);
        }
    } else {
        const bif_leak_options o = {.match = a->o.match, .list = a->list != NULL ? list_leak : NULL, .context = &l};
        BIF_TRY(bif_leak(pool, selection, others, &o, of_images ? images : NULL, of_captions ? captions : NULL, parameters));
    }
done:
    st = end_list(&l, st);
    return st == BIF_OK ? end_step(a, selection) : st;
}

static bif_status run(void *context, const bif_team *team, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_device *device = NULL;
    bif_pool pool = {0}, others = {0};
    bif_selection *selection = NULL;
    bif_relation images = {0}, captions = {0};
    json_t *parameters = parameters_of(a), *columns = json_object_get(parameters, "columns");
    st = bif_selection_open(a->from, a->shards, a->shard_count, &pool, &selection);
    if (st == BIF_OK && a->against_count > 0) {
        st = bif_pool_open(a->against, (size_t)a->against_count, &others);
    }
    if (st == BIF_OK && a->embedding) {
        st = bif_comm_open_device(comm, a->device != NULL ? a->device : "cpu", team->threads, &device);
    }
    BIF_TRY(team->agree(team->context, st));
    const bif_pool_part part = {&pool, selection}, other_part = {&others, NULL}, *against = a->against_count > 0 ? &other_part : NULL;
    if (a->embedding) {
        BIF_TRY(bif_near_embeddings(&part, against, &a->semantic, team, device, columns, &images));
    } else if (a->o.match != BIF_MATCH_CAPTION) {
        BIF_TRY(bif_near_images(&part, against, &a->near, team, columns, &images));
    }
    if (a->o.match != BIF_MATCH_IMAGE) {
        bif_near_options near = a->near;
        near.held = bif_relation_bytes(&images);
        BIF_TRY(bif_near_captions(&part, against, &near, team, columns, &captions));
    }
    if (team->rank == 0) {
        st = decide(a, &pool, against ? &others : NULL, selection, &images, &captions, parameters);
    }
    st = team->agree(team->context, st);
done:
    bif_device_close(device);
    json_decref(parameters);
    bif_relation_free(&images);
    bif_relation_free(&captions);
    bif_selection_free(selection);
    st = bif_pool_verdict(&others, bif_pool_verdict(&pool, st));
    bif_pool_close(&pool);
    bif_pool_close(&others);
    return st;
}

bif_status bif_cmd_data_dedup(int argc, char **argv)
{
    enum { COMMON = 1, KEEP, GROUP, HELP };
    static const struct option options[] = {{"from", required_argument, NULL, COMMON},
                                            {"out", required_argument, NULL, COMMON},
                                            {"method", required_argument, NULL, COMMON},
                                            {"distance", required_argument, NULL, COMMON},
                                            {"quality", required_argument, NULL, COMMON},
                                            {"dihedral", no_argument, NULL, COMMON},
                                            {"name", required_argument, NULL, COMMON},
                                            {"cosine", required_argument, NULL, COMMON},
                                            {"all-pairs", no_argument, NULL, COMMON},
                                            {"device", required_argument, NULL, COMMON},
                                            {"caption", required_argument, NULL, COMMON},
                                            {"jaccard", required_argument, NULL, COMMON},
                                            {"match", required_argument, NULL, COMMON},
                                            {"keep", required_argument, NULL, KEEP},
                                            {"group", required_argument, NULL, GROUP},
                                            {"list", required_argument, NULL, COMMON},
                                            {"threads", required_argument, NULL, COMMON},
                                            {"memory-mib", required_argument, NULL, COMMON},
                                            {"json", no_argument, NULL, COMMON},
                                            {"quiet", no_argument, NULL, COMMON},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    arguments a = defaults("dedup", BIF_MATCH_BOTH);
    int which = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, &which)) != -1;) {
        switch (c) {
        case KEEP: BIF_TRY(bif_keep_by_name(optarg, &a.o.keep)); break;
        case GROUP: BIF_TRY(bif_group_by_name(optarg, &a.o.group)); break;
        case HELP: fputs(dedup_help, stdout); goto done;
        default: BIF_TRY(common_option(&a, c == COMMON ? options[which].name : "", optarg));
        }
    }
    BIF_TRY(resolve(&a, argv + optind, argc - optind));
    BIF_TRY(bif_with_team((int)a.threads, run, &a));
done:
    return st;
}

bif_status bif_cmd_data_leak(int argc, char **argv)
{
    enum { COMMON = 1, AGAINST, HELP };
    static const struct option options[] = {{"from", required_argument, NULL, COMMON},
                                            {"out", required_argument, NULL, COMMON},
                                            {"against", required_argument, NULL, AGAINST},
                                            {"method", required_argument, NULL, COMMON},
                                            {"distance", required_argument, NULL, COMMON},
                                            {"quality", required_argument, NULL, COMMON},
                                            {"dihedral", no_argument, NULL, COMMON},
                                            {"name", required_argument, NULL, COMMON},
                                            {"cosine", required_argument, NULL, COMMON},
                                            {"all-pairs", no_argument, NULL, COMMON},
                                            {"device", required_argument, NULL, COMMON},
                                            {"caption", required_argument, NULL, COMMON},
                                            {"jaccard", required_argument, NULL, COMMON},
                                            {"match", required_argument, NULL, COMMON},
                                            {"list", required_argument, NULL, COMMON},
                                            {"threads", required_argument, NULL, COMMON},
                                            {"memory-mib", required_argument, NULL, COMMON},
                                            {"json", no_argument, NULL, COMMON},
                                            {"quiet", no_argument, NULL, COMMON},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    arguments a = defaults("leak", BIF_MATCH_IMAGE);
    a.against = bif_calloc((size_t)argc + 1, sizeof *a.against);
    int which = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, &which)) != -1;) {
        switch (c) {
        case AGAINST: a.against[a.against_count++] = optarg; break;
        case HELP: fputs(leak_help, stdout); goto done;
        default: BIF_TRY(common_option(&a, c == COMMON ? options[which].name : "", optarg));
        }
    }
    if (a.against_count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data leak: --against is needed; see bifocal data leak --help"));
    }
    BIF_TRY(resolve(&a, argv + optind, argc - optind));
    BIF_TRY(bif_with_team((int)a.threads, run, &a));
done:
    free(a.against);
    return st;
}
