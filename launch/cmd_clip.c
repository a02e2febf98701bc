/* bifocal zeroshot, retrieval, linear-probe: the verbs that score a CLIP pair. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/linear_probe.h"
#include "eval/retrieval.h"
#include "eval/zeroshot.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/with_comm.h"

typedef struct {
    const char *checkpoint;
    bif_session_options session;
    const char **shards; /* [argc] */
    size_t shard_count;
    const char *classes, *templates, *images, *pairs, *train, *validation, *test, *image_root, *summary;
    int64_t batch, iterations;
    double l2;
} arguments;

enum { OPT_CLASSES = 256, OPT_TEMPLATES, OPT_IMAGES, OPT_PAIRS, OPT_TRAIN, OPT_VALIDATION, OPT_TEST, OPT_L2, OPT_ITERATIONS, OPT_ROOT,
       OPT_SUMMARY, OPT_BATCH, OPT_FIT, OPT_TOKENIZER, OPT_DEVICE, OPT_PRECISION, OPT_THREADS, OPT_SHARDS };

/* Each row says which verbs know the option. */
static const struct {
    struct option option;
    const char *verbs, *value, *text;
} table[] = {
    {{"classes", required_argument, NULL, OPT_CLASSES}, "zeroshot linear-probe", "FILE", "one class name a line"},
    {{"templates", required_argument, NULL, OPT_TEMPLATES}, "zeroshot", "FILE",
     "one template a line, {} for the name (default: the name alone)"},
    {{"images", required_argument, NULL, OPT_IMAGES}, "zeroshot", "FILE",
     "JSONL: image, label (a line of the classes, or its number from 0)"},
    {{"pairs", required_argument, NULL, OPT_PAIRS}, "retrieval", "FILE", "JSONL: image, caption (a text or a list of them)"},
    {{"shards", required_argument, NULL, OPT_SHARDS}, "zeroshot retrieval", "PATH",
     "instead of that JSONL a shard or a folder of them (repeatable): pictures with captions, of zeroshot the names of their classes"},
    {{"train", required_argument, NULL, OPT_TRAIN}, "linear-probe", "FILE", "JSONL: image, label"},
    {{"test", required_argument, NULL, OPT_TEST}, "linear-probe", "FILE", "JSONL: image, label"},
    {{"validation", required_argument, NULL, OPT_VALIDATION}, "linear-probe", "FILE",
     "JSONL to choose --l2 by (default: a fifth of --train)"},
    {{"l2", required_argument, NULL, OPT_L2}, "linear-probe", "X", "strength, 1/C of scikit-learn (default: chosen, 1e-6 to 1e6)"},
    {{"iterations", required_argument, NULL, OPT_ITERATIONS}, "linear-probe", "N", "of L-BFGS, at most (1000)"},
    {{"image-root", required_argument, NULL, OPT_ROOT}, "zeroshot retrieval linear-probe", "DIR",
     "folder that the pictures' names are relative to"},
    {{"summary", required_argument, NULL, OPT_SUMMARY}, "zeroshot retrieval linear-probe", "FILE", "scores as JSON"},
    {{"batch", required_argument, NULL, OPT_BATCH}, "zeroshot retrieval linear-probe", "N", "pictures or texts at a time (64)"},
    {{"image-fit", required_argument, NULL, OPT_FIT}, "zeroshot retrieval linear-probe", "NAME",
     "crop, pad or squash (default: as trained)"},
    {{"tokenizer", required_argument, NULL, OPT_TOKENIZER}, "zeroshot retrieval linear-probe", "PATH",
     "tokenizer.json (default: the checkpoint's)"},
    {{"device", required_argument, NULL, OPT_DEVICE}, "zeroshot retrieval linear-probe", "NAME", "cpu, cuda, cuda:N or auto (cpu)"},
    {{"precision", required_argument, NULL, OPT_PRECISION}, "zeroshot retrieval linear-probe", "NAME",
     "auto, fp32 or bf16 (auto: bf16 on CUDA, fp32 on the CPU)"},
    {{"threads", required_argument, NULL, OPT_THREADS}, "zeroshot retrieval linear-probe", "N",
     "CPU threads of a rank (0 = the cores divided by the ranks of the node)"},
    {{"help", no_argument, NULL, 'h'}, "zeroshot retrieval linear-probe", NULL, "this text"},
};
enum { OPTIONS = sizeof table / sizeof *table };

static void help(const char *verb, const char *usage)
{
    printf("%s\n", usage);
    for (size_t i = 0; i < OPTIONS; i++) {
        if (strstr(table[i].verbs, verb) != NULL) {
            char left[48];
            snprintf(left, sizeof left, "--%s %s", table[i].option.name, table[i].value ? table[i].value : "");
            printf("  %-24s %s\n", left, table[i].text);
        }
    }
}

static bif_status strength(const char *text, double *out)
{
    char *end = NULL;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out) && *out >= 0.0
               ? BIF_OK
               : bif_fail(BIF_ERR_USAGE, "--l2: '%s' is not a number of at least 0", text);
}

/* Returns BIF_OK with *done set when --help was printed. */
static bif_status parse(int argc, char **argv, const char *usage, arguments *a, bool *done)
{
    bif_status st = BIF_OK;
    struct option options[OPTIONS + 1] = {0};
    size_t count = 0;
    for (size_t i = 0; i < OPTIONS; i++) {
        if (strstr(table[i].verbs, argv[0]) != NULL) {
            options[count++] = table[i].option;
        }
    }
    *a = (arguments){.session.device = "cpu", .batch = 64, .iterations = 1000, .l2 = -1.0};
    a->shards = bif_calloc((size_t)argc, sizeof *a->shards);
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        int64_t n = 0;
        switch (c) {
        case OPT_CLASSES: a->classes = optarg; break;
        case OPT_TEMPLATES: a->templates = optarg; break;
        case OPT_IMAGES: a->images = optarg; break;
        case OPT_PAIRS: a->pairs = optarg; break;
        case OPT_SHARDS: a->shards[a->shard_count++] = optarg; break;
        case OPT_TRAIN: a->train = optarg; break;
        case OPT_TEST: a->test = optarg; break;
        case OPT_VALIDATION: a->validation = optarg; break;
        case OPT_ROOT: a->image_root = optarg; break;
        case OPT_SUMMARY: a->summary = optarg; break;
        case OPT_FIT: a->session.image_fit = optarg; break;
        case OPT_TOKENIZER: a->session.tokenizer = optarg; break;
        case OPT_DEVICE: a->session.device = optarg; break;
        case OPT_PRECISION: BIF_TRY(bif_option_precision(optarg, &a->session.precision)); break;
        case OPT_BATCH: BIF_TRY(bif_option_number("batch", optarg, 1, &a->batch)); break;
        case OPT_ITERATIONS: BIF_TRY(bif_option_number("iterations", optarg, 1, &a->iterations)); break;
        case OPT_L2: BIF_TRY(strength(optarg, &a->l2)); break;
        case OPT_THREADS:
            BIF_TRY(bif_option_number("threads", optarg, 0, &n));
            a->session.threads = (int)n;
            break;
        case 'h':
            help(argv[0], usage);
            *done = true;
            goto done;
        default:
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: wrong option; see bifocal %s --help", argv[0], argv[0]));
        }
    }
    if (optind >= argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: name a checkpoint; see bifocal %s --help", argv[0], argv[0]));
    }
    a->checkpoint = argv[optind++];
    if (optind < argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: '%s' is one argument too many; see bifocal %s --help", argv[0], argv[optind], argv[0]));
    }
    BIF_TRY(bif_option_writable("summary", a->summary));
    if (a->shard_count > 0 && a->image_root != NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--image-root does not go with --shards, where the pictures are"));
    }
    a->image_root = a->image_root != NULL ? a->image_root : ".";
done:
    return st;
}

/* The file, or shards instead. */
static bif_status need_pictures(const arguments *a, const char *verb, const char *option, const char *file)
{
    if (a->shard_count > 0 && file != NULL) {
        return bif_fail(BIF_ERR_USAGE, "--shards takes the place of --%s; give one of them", option);
    }
    return a->shard_count > 0 ? BIF_OK : bif_option_need(verb, option, file);
}

static double share(int64_t right, const bif_accuracy *accuracy)
{
    return (double)right / (double)accuracy->images;
}

static json_t *accuracy_json(const char *checkpoint, const bif_accuracy *a, double seconds)
{
    return json_pack("{s:o,s:I,s:f,s:f,s:f,s:f}", "checkpoint", bif_json_text(checkpoint), "images", (json_int_t)a->images, "accuracy",
                     share(a->correct1, a), "accuracy_top5", share(a->correct5, a), "accuracy_per_class", a->per_class, "seconds", seconds);
}

static void print_accuracy(const char *what, const bif_accuracy *a, double seconds)
{
    printf("%s: %lld of %lld pictures right (%.2f %%), %.2f %% in the first five, mean of the classes %.2f %%, %.1f s\n", what,
           (long long)a->correct1, (long long)a->images, 100.0 * share(a->correct1, a), 100.0 * share(a->correct5, a), 100.0 * a->per_class,
           seconds);
}

/* ---- zeroshot ---- */

static bif_status run_zeroshot(void *context, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_session session = {0};
    bif_zeroshot_result r;
    BIF_TRY(bif_session_open(a->checkpoint, 1u << BIF_MODEL_CLIP, &a->session, comm, &session));
    BIF_TRY(bif_zeroshot(&session, comm,
                         &(bif_zeroshot_options){.classes = a->classes, .templates = a->templates, .images = a->images,
                                                 .shards = a->shards, .shard_count = a->shard_count, .image_root = a->image_root,
                                                 .batch = a->batch}, &r));
    if (bif_comm_rank(comm) == 0) {
        print_accuracy("zero-shot", &r.accuracy, r.seconds);
        json_t *summary = accuracy_json(session.folder, &r.accuracy, r.seconds);
        json_object_set_new(summary, "classes", json_integer(r.classes));
        json_object_set_new(summary, "templates", json_integer(r.templates));
        st = bif_save_summary(a->summary, summary);
    }
    st = bif_comm_agree(comm, st);
done:
    bif_session_close(&session);
    return st;
}

bif_status bif_cmd_zeroshot(int argc, char **argv)
{
    bif_status st = BIF_OK;
    bool done = false;
    arguments a = {0};
    BIF_TRY(parse(argc, argv,
                  "usage: bifocal zeroshot CHECKPOINT --classes FILE [--templates FILE] --images FILE --image-root DIR [--summary FILE]\n\n"
                  "Classifies pictures by the nearest class in the joint space of a CLIP pair. A class is the mean of the normalised\n"
                  "embeddings of its name in every template, normalised again. The result does not depend on the number of ranks.\n",
                  &a, &done));
    if (!done) {
        BIF_TRY(bif_option_need("zeroshot", "classes", a.classes));
        BIF_TRY(need_pictures(&a, "zeroshot", "images", a.images));
        BIF_TRY(bif_with_comm(run_zeroshot, &a));
    }
done:
    free(a.shards);
    return st;
}

/* ---- retrieval ---- */

static json_t *recalls(const char *what, const double *recall)
{
    json_t *value = json_object();
    printf("%-14s", what);
    for (int k = 0; k < BIF_RECALLS; k++) {
        char name[16];
        snprintf(name, sizeof name, "recall@%d", bif_recall_at[k]);
        printf("  %s %6.2f %%", name, 100.0 * recall[k]);
        json_object_set_new(value, name, json_real(recall[k]));
    }
    printf("\n");
    return value;
}

static bif_status run_retrieval(void *context, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_session session = {0};
    bif_retrieval_result r;
    BIF_TRY(bif_session_open(a->checkpoint, 1u << BIF_MODEL_CLIP, &a->session, comm, &session));
    BIF_TRY(bif_retrieval(&session, comm, 
                          &(bif_retrieval_options){.pairs = a->pairs, .shards = a->shards, .shard_count = a->shard_count,
                                                   .image_root = a->image_root, .batch = a->batch}, &r));
    if (bif_comm_rank(comm) == 0) {
        json_t *image_to_text = recalls("image to text", r.image_to_text), *text_to_image = recalls("text to image", r.text_to_image);
        printf("%lld pictures, %lld captions, %.1f s\n", (long long)r.images, (long long)r.texts, r.seconds);
        st = bif_save_summary(a->summary, json_pack("{s:o,s:I,s:I,s:o,s:o,s:f}", "checkpoint", bif_json_text(session.folder), "images",
                                                    (json_int_t)r.images, "texts", (json_int_t)r.texts, "image_to_text", image_to_text,
                                                    "text_to_image", text_to_image, "seconds", r.seconds));
    }
    st = bif_comm_agree(comm, st);
done:
    bif_session_close(&session);
    return st;
}

bif_status bif_cmd_retrieval(int argc, char **argv)
{
    bif_status st = BIF_OK;
    bool done = false;
    arguments a = {0};
    BIF_TRY(parse(argc, argv,
                  "usage: bifocal retrieval CHECKPOINT --pairs FILE --image-root DIR [--summary FILE]\n\n"
                  "Finds captions by pictures (right when one of the picture's captions is among the first k) and pictures by captions.\n"
                  "A picture may have several captions, in one line or in several; ties count against what is looked for; captions too\n"
                  "long for the tower are cut.\n",
                  &a, &done));
    if (!done) {
        BIF_TRY(need_pictures(&a, "retrieval", "pairs", a.pairs));
        BIF_TRY(bif_with_comm(run_retrieval, &a));
    }
done:
    free(a.shards);
    return st;
}

/* ---- linear-probe ---- */

static bif_status run_linear_probe(void *context, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_session session = {0};
    bif_linear_probe_result r;
    BIF_TRY(bif_session_open(a->checkpoint, 1u << BIF_MODEL_CLIP, &a->session, comm, &session));
    BIF_TRY(bif_linear_probe(&session, comm,
                             &(bif_linear_probe_options){.classes = a->classes,
                                                         .train = a->train,
                                                         .test = a->test,
                                                         .validation = a->validation,
                                                         .image_root = a->image_root,
                                                         .batch = a->batch,
                                                         .l2 = a->l2,
                                                         .iterations = a->iterations},
                             &r));
    if (bif_comm_rank(comm) == 0) {
        print_accuracy("linear probe", &r.accuracy, r.seconds);
        printf("l2 %.4g%s; fitted to %lld pictures in %lld iterations, gradient down to %.1e of the first\n", r.l2,
               isnan(r.validation) ? "" : ", chosen by validation", (long long)r.fitted, (long long)r.fit.iterations, r.fit.gradient);
        json_t *summary = accuracy_json(session.folder, &r.accuracy, r.seconds);
        json_object_set_new(summary, "l2", json_real(r.l2));
        json_object_set_new(summary, "validation_accuracy", isnan(r.validation) ? json_null() : json_real(r.validation));
        json_object_set_new(summary, "fitted", json_integer(r.fitted));
        json_object_set_new(summary, "iterations", json_integer(r.fit.iterations));
        json_object_set_new(summary, "objective", json_real(r.fit.objective));
        json_object_set_new(summary, "gradient", json_real(r.fit.gradient));
        st = bif_save_summary(a->summary, summary);
    }
    st = bif_comm_agree(comm, st);
done:
    bif_session_close(&session);
    return st;
}

bif_status bif_cmd_linear_probe(int argc, char **argv)
{
    bif_status st = BIF_OK;
    bool done = false;
    arguments a = {0};
    BIF_TRY(parse(argc, argv,
                  "usage: bifocal linear-probe CHECKPOINT --classes FILE --train FILE --test FILE --image-root DIR [--l2 X] [...]\n\n"
                  "Fits multinomial logistic regression (L-BFGS) to the frozen, normalised picture embeddings of a CLIP pair. Without\n"
                  "--l2 its strength is chosen by validation accuracy, every other decade first and then ever nearer to the best, and\n"
                  "the last fit takes all of --train and --validation. The result does not depend on the number of ranks.\n",
                  &a, &done));
    if (!done) {
        BIF_TRY(bif_option_need("linear-probe", "classes", a.classes));
        BIF_TRY(bif_option_need("linear-probe", "train", a.train));
        BIF_TRY(bif_option_need("linear-probe", "test", a.test));
        BIF_TRY(bif_with_comm(run_linear_probe, &a));
    }
done:
    free(a.shards);
    return st;
}
