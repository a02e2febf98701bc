/* bifocal eval, generate, probe: the verbs that use a language model or a LLaVA. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "eval/probe.h"
#include "eval/vqa.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/with_comm.h"

/* One argument structure and one option table for the three verbs; each verb says in `takes` which of them it knows. */
typedef struct {
    const char *verb, *checkpoint;
    bif_session_options session;
    const char *image_root, *out, *summary, *prompt, *samples;
    const char **questions, **references, **shards; /* [argc] */
    size_t question_files, reference_files, shard_files;
    bif_prompt_options task;
    bif_prompt_used used;
    bif_box_space boxes;
    bif_norm norm; /* of the references */
    bool norm_given;
    bif_ask_way way;
    const char *picture[16];
    int64_t pictures;
    bif_decoding decoding;
    int64_t batch, limit;
    bif_ablate ablate;
    bool restart, overwrite, json;
} arguments;

enum { OPT_QUESTIONS = 256, OPT_ROOT, OPT_OUT, OPT_SUMMARY, OPT_PROMPT, OPT_IMAGE, OPT_BATCH, OPT_MAX_NEW, OPT_LIMIT,
       OPT_BLANK, OPT_DEVICE, OPT_PRECISION, OPT_THREADS, OPT_TOKENIZER, OPT_TEMPLATE, OPT_SYSTEM, OPT_FIT, OPT_PLACE, OPT_GRAD, OPT_JSON,
       OPT_BASE, OPT_TOWER, OPT_ABLATE, OPT_RESTART,
       OPT_TEMPERATURE, OPT_TOP_P, OPT_TOP_K, OPT_SEED, OPT_BEAMS, OPT_LENGTH_PENALTY,
       OPT_TASK, OPT_VARIANT, OPT_SUFFIX, OPT_REFERENCES, OPT_BOXES, OPT_RANK, OPT_SHARDS, OPT_BEST, OPT_NORM, OPT_OVERWRITE };

static const struct {
    struct option option;
    const char *verbs, *value, *text;
} table[] = {
    {{"questions", required_argument, NULL, OPT_QUESTIONS}, "eval", "FILE",
     "JSONL of question_id, image (or a list), question (or text), answer (or a list), type (or category), options; or a task's own (repeatable)"},
    {{"shards", required_argument, NULL, OPT_SHARDS}, "eval", "PATH",
     "a shard or a folder of them (repeatable): its samples are the questions; with --questions only the pictures are there, by sample id"},
    {{"task", required_argument, NULL, OPT_TASK}, "eval", "NAME", "a benchmark: its files of questions, its prompts (list below)"},
    {{"variant", required_argument, NULL, OPT_VARIANT}, "eval", "NAME", "which of the task's prompts (its first)"},
    {{"suffix", required_argument, NULL, OPT_SUFFIX}, "eval", "TEXT", "behind every question of a task instead of the variant's"},
    {{"references", required_argument, NULL, OPT_REFERENCES}, "eval", "FILE", "also score, as bifocal score does (repeatable)"},
    {{"norm", required_argument, NULL, OPT_NORM}, "eval", "NAME", "of the references: whose rules make answers equal; see bifocal score --help"},
    {{"box-space", required_argument, NULL, OPT_BOXES}, "eval", "NAME", "of task refcoco's answers: see bifocal score --help"},
    {{"rank", required_argument, NULL, OPT_RANK}, "eval", "HOW",
     "sum or mean: the likeliest of the options instead of decoding (options are not in the prompt)"},
    {{"image", required_argument, NULL, OPT_IMAGE}, "generate", "FILE", "a picture (repeatable)"},
    {{"prompt", required_argument, NULL, OPT_PROMPT}, "eval generate", "TEXT", "the question; eval: about each picture of shards whose text is a caption"},
    {{"image-root", required_argument, NULL, OPT_ROOT}, "eval probe", "DIR", "folder that the pictures' names are relative to"},
    {{"out", required_argument, NULL, OPT_OUT}, "eval probe", "FILE", "eval: predictions JSONL; probe: safetensors"},
    {{"summary", required_argument, NULL, OPT_SUMMARY}, "eval", "FILE", "scores as JSON"},
    {{"grad", no_argument, NULL, OPT_GRAD}, "probe", NULL, "also write grad.NAME of every parameter, nothing frozen"},
    {{"ablate", required_argument, NULL, OPT_ABLATE}, "eval", "WHAT",
     "image=blank or image=shuffle: pictures replaced by a blank one, or by one another (what the question alone is worth)"},
    {{"blank", no_argument, NULL, OPT_BLANK}, "eval", NULL, "--ablate image=blank"},
    {{"restart", no_argument, NULL, OPT_RESTART}, "eval", NULL, "throw away the answers (OUT.part-*) of a run that did not end"},
    {{"overwrite", no_argument, NULL, OPT_OVERWRITE}, "eval", NULL, "replace predictions that are there from a run that ended"},
    {{"limit", required_argument, NULL, OPT_LIMIT}, "eval", "N", "only the first N questions (0: all)"},
    {{"batch", required_argument, NULL, OPT_BATCH}, "eval", "N", "questions at a time (64); does not change a result"},
    {{"max-new-tokens", required_argument, NULL, OPT_MAX_NEW}, "eval generate", "N", "longest answer (16, or the task's; generate: 128)"},
    {{"temperature", required_argument, NULL, OPT_TEMPERATURE}, "eval generate", "X",
     "sample at this temperature (0: the likeliest token)"},
    {{"top-p", required_argument, NULL, OPT_TOP_P}, "eval generate", "X", "sample from the likeliest tokens that make up this share (1)"},
    {{"top-k", required_argument, NULL, OPT_TOP_K}, "eval generate", "N", "sample from the N likeliest tokens (0: all)"},
    {{"seed", required_argument, NULL, OPT_SEED}, "eval generate", "N",
     "of sampling (0); a token is drawn by seed, question and place alone"},
    {{"beams", required_argument, NULL, OPT_BEAMS}, "eval generate", "N", "beam search (1: none), ended as transformers ends it"},
    {{"length-penalty", required_argument, NULL, OPT_LENGTH_PENALTY}, "eval generate", "X", "of beams: log-probabilities by length^X (1)"},
    {{"template", required_argument, NULL, OPT_TEMPLATE}, "eval generate probe", "NAME",
     BIF_TEMPLATE_NAMES " (default: as trained)"},
    {{"system", required_argument, NULL, OPT_SYSTEM}, "eval generate probe", "TEXT", "system text (default: as trained)"},
    {{"image-fit", required_argument, NULL, OPT_FIT}, "eval generate probe", "NAME", "crop, pad or squash (default: as trained)"},
    {{"image-place", required_argument, NULL, OPT_PLACE}, "eval generate probe", "NAME",
     "front, keep or llava_next: where <image> of a question goes (default: as trained)"},
    {{"tokenizer", required_argument, NULL, OPT_TOKENIZER}, "eval generate probe", "PATH",
     "tokenizer file or folder (default: the checkpoint's)"},
    {{"device", required_argument, NULL, OPT_DEVICE}, "eval generate probe", "NAME", "cpu, cuda, cuda:N or auto (cpu)"},
    {{"precision", required_argument, NULL, OPT_PRECISION}, "eval generate probe", "NAME",
     "auto, fp32 or bf16 (auto: bf16 on CUDA, fp32 on the CPU)"},
    {{"threads", required_argument, NULL, OPT_THREADS}, "eval generate probe", "N",
     "CPU threads of a rank (0 = the cores divided by the ranks of the node)"},
    {{"base", required_argument, NULL, OPT_BASE}, "eval generate probe", "DIR",
     "the base of a LoRA adapter (default: as adapter_config.json says)"},
    {{"tower", required_argument, NULL, OPT_TOWER}, "eval generate probe", "DIR", "the vision tower, where the checkpoint only names it"},
    {{"best", no_argument, NULL, OPT_BEST}, "eval generate probe", NULL, "of a run's folder the checkpoint that best.json names, not the newest"},
    {{"json", no_argument, NULL, OPT_JSON}, "generate", NULL, "print a JSON object instead of the answer alone"},
    {{"help", no_argument, NULL, 'h'}, "eval generate probe", NULL, "this text"},
};
enum { OPTIONS = sizeof table / sizeof *table };

static bool takes(size_t i, const char *verb)
{
    const char *found = strstr(table[i].verbs, verb);
    return found != NULL;
}

static void help(const char *verb, const char *usage)
{
    printf("%s\n", usage);
    for (size_t i = 0; i < OPTIONS; i++) {
        if (takes(i, verb)) {
            char left[48];
            snprintf(left, sizeof left, "--%s %s", table[i].option.name, table[i].value ? table[i].value : "");
            printf("  %-24s %s\n", left, table[i].text);
        }
    }
}

/* Returns BIF_OK with *done set when --help was printed. */
static bif_status parse(int argc, char **argv, const char *usage, arguments *a, bool *done)
{
    bif_status st = BIF_OK;
    struct option options[OPTIONS + 1] = {0};
    size_t count = 0;
    for (size_t i = 0; i < OPTIONS; i++) {
        if (takes(i, argv[0])) {
            options[count++] = table[i].option;
        }
    }
    a->verb = argv[0];
    a->session.device = "cpu";
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        int64_t n = 0;
        switch (c) {
        case OPT_QUESTIONS: a->questions[a->question_files++] = optarg; break;
        case OPT_SHARDS: a->shards[a->shard_files++] = optarg; break;
        case OPT_REFERENCES: a->references[a->reference_files++] = optarg; break;
        case OPT_TASK: a->task.task = optarg; break;
        case OPT_VARIANT: a->task.variant = optarg; break;
        case OPT_SUFFIX: a->task.suffix = optarg; break;
        case OPT_BOXES: BIF_TRY(bif_box_space_by_name(optarg, &a->boxes)); break;
        case OPT_RANK:
            a->way = strcmp(optarg, "sum") == 0 ? BIF_ASK_RANK_SUM : strcmp(optarg, "mean") == 0 ? BIF_ASK_RANK_MEAN : BIF_ASK_DECODE;
            BIF_TRY(a->way != BIF_ASK_DECODE ? BIF_OK : bif_fail(BIF_ERR_USAGE, "--rank: '%s' is neither sum nor mean", optarg));
            break;
        case OPT_PROMPT: a->prompt = optarg; break;
        case OPT_ROOT: a->image_root = optarg; break;
        case OPT_OUT: a->out = optarg; break;
        case OPT_SUMMARY: a->summary = optarg; break;
        case OPT_GRAD: a->session.gradients = true; break;
        case OPT_BLANK: a->ablate = BIF_ABLATE_BLANK; break;
        case OPT_RESTART: a->restart = true; break;
        case OPT_OVERWRITE: a->overwrite = true; break;
        case OPT_NORM:
            BIF_TRY(bif_norm_by_name(optarg, &a->norm));
            a->norm_given = true;
            break;
        case OPT_ABLATE:
            a->ablate = strcmp(optarg, "image=blank") == 0     ? BIF_ABLATE_BLANK
                        : strcmp(optarg, "image=shuffle") == 0 ? BIF_ABLATE_SHUFFLE
                                                               : BIF_ABLATE_NONE;
            BIF_TRY(a->ablate != BIF_ABLATE_NONE
                        ? BIF_OK
                        : bif_fail(BIF_ERR_USAGE, "--ablate: '%s' is neither image=blank nor image=shuffle", optarg));
            break;
        case OPT_JSON: a->json = true; break;
        case OPT_TEMPLATE: a->session.template_name = optarg; break;
        case OPT_SYSTEM: a->session.system = optarg; break;
        case OPT_FIT: a->session.image_fit = optarg; break;
        case OPT_PLACE: a->session.image_place = optarg; break;
        case OPT_BASE: a->session.beside.base = optarg; break;
        case OPT_BEST: a->session.best = true; break;
        case OPT_TOWER: a->session.beside.tower = optarg; break;
        case OPT_TOKENIZER: a->session.tokenizer = optarg; break;
        case OPT_DEVICE: a->session.device = optarg; break;
        case OPT_PRECISION: BIF_TRY(bif_option_precision(optarg, &a->session.precision)); break;
        case OPT_LIMIT: BIF_TRY(bif_option_number("limit", optarg, 0, &a->limit)); break;
        case OPT_BATCH: BIF_TRY(bif_option_number("batch", optarg, 1, &a->batch)); break;
        case OPT_MAX_NEW: BIF_TRY(bif_option_number("max-new-tokens", optarg, 1, &a->decoding.max_new)); break;
        case OPT_TEMPERATURE: BIF_TRY(bif_option_real("temperature", optarg, &a->decoding.temperature)); break;
        case OPT_TOP_P: BIF_TRY(bif_option_real("top-p", optarg, &a->decoding.top_p)); break;
        case OPT_TOP_K: BIF_TRY(bif_option_number("top-k", optarg, 0, &a->decoding.top_k)); break;
        case OPT_BEAMS: BIF_TRY(bif_option_number("beams", optarg, 1, &a->decoding.beams)); break;
        case OPT_LENGTH_PENALTY: BIF_TRY(bif_option_real("length-penalty", optarg, &a->decoding.length_penalty)); break;
        case OPT_SEED:
            BIF_TRY(bif_option_number("seed", optarg, 0, &n));
            a->decoding.seed = (uint64_t)n;
            break;
        case OPT_THREADS:
            BIF_TRY(bif_option_number("threads", optarg, 0, &n));
            a->session.threads = (int)n;
            break;
        case OPT_IMAGE:
            if (a->pictures == (int64_t)(sizeof a->picture / sizeof *a->picture)) {
                BIF_TRY(bif_fail(BIF_ERR_USAGE, "--image: at most %lld pictures", (long long)a->pictures));
            }
            a->picture[a->pictures++] = optarg;
            break;
        case 'h':
            help(argv[0], usage);
            *done = true;
            goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: wrong option; see bifocal %s --help", argv[0], argv[0]));
        }
    }
    if (optind >= argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: name a checkpoint; see bifocal %s --help", argv[0], argv[0]));
    }
    a->checkpoint = argv[optind++];
    if (optind < argc && strcmp(argv[0], "probe") == 0) {
        a->samples = argv[optind++];
    }
    if (optind < argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: '%s' is one argument too many; see bifocal %s --help", argv[0], argv[optind], argv[0]));
    }
done:
    return st;
}

/* ---- eval ---- */

static const bif_score_task *score_task(const arguments *a)
{
    return bif_score_task_by_name(a->used.task != NULL ? a->used.task->name : "exact");
}

/* Exact matches of the answers that stand in the file of questions. */
static json_t *print_matches(const arguments *a, const bif_vqa_result *r)
{
    static const char *const heads[] = {"type", "type (blank pictures)", "type (other pictures)"};
    json_t *types = json_object();
    const double accuracy = r->scored > 0 ? (double)r->correct / (double)r->scored : 0.0;
    if (r->scored > 0) {
        printf("%-24s %8s %8s %9s\n", heads[a->ablate], "scored", "correct", "accuracy");
    } else {
        puts("eval read no answers out of these questions, so nothing is scored: --references FILE (the benchmark's own, often the same file)\n"
             "scores here and in bifocal score; bifocal submit writes what a server takes");
    }
    for (int64_t t = 0; t < r->types; t++) {
        const double share = (double)r->type[t].correct / (double)r->type[t].scored;
        printf("%-24s %8lld %8lld %8.2f%%\n", r->type[t].name, (long long)r->type[t].scored, (long long)r->type[t].correct, 100.0 * share);
        json_object_set_new(types, r->type[t].name, json_real(share));
    }
    if (r->scored > 0) {
        printf("%-24s %8lld %8lld %8.2f%%\n", "all", (long long)r->scored, (long long)r->correct, 100.0 * accuracy);
    }
    return json_pack("{s:I,s:I,s:o,s:o}", "scored", (json_int_t)r->scored, "correct", (json_int_t)r->correct, "accuracy",
                     r->scored > 0 ? json_real(accuracy) : json_null(),
                     "accuracy_per_type", types);
}

/* The benchmark's scores. Questions that were not asked (--limit, a variant that leaves some out) are left out and
 * counted. */
static bif_status score(const arguments *a, json_t **out)
{
    bif_status st = BIF_OK;
    const bif_score_task *task = score_task(a);
    const bif_score_policy policy = {.missing = BIF_MISSING_SKIP, .allow_unknown = false};
    bif_score_set *set = NULL;
    bif_score_counts counts;
    bif_metric_list metrics = {0};
    BIF_TRY(bif_score_open(task, a->references, a->reference_files, &set));
    set->boxes = a->boxes;
    BIF_TRY(bif_score_predictions(set, a->out, &policy, &counts));
    BIF_TRY(bif_score_run(set, a->norm));
    bif_score_summary(set, NULL, &metrics);
    json_t *rows = json_array();
    printf("%s: %s%s%s; %s\n", task->name, task->title, task->norms != 0 ? ", norm " : "",
           task->norms != 0 ? bif_norm_name(a->norm) : "", task->rule);
    for (size_t m = 0; m < metrics.count; m++) {
        const bif_metric *metric = &metrics.items[m];
        char value[32];
        snprintf(value, sizeof value, isfinite(metric->value) ? "%.2f" : "-", metric->value);
        printf("%-44s %9s  %lld\n", metric->name, value, (long long)metric->count);
        json_array_append_new(rows, json_pack("{s:s,s:o,s:I}", "name", metric->name, "value",
                                              isfinite(metric->value) ? json_real(metric->value) : json_null(), "questions",
                                              (json_int_t)metric->count));
    }
    for (size_t n = 0; n < set->note_count; n++) {
        printf("note: %s\n", set->notes[n]);
    }
    printf("%lld questions scored, %lld not asked, %lld answers not parsed\n", (long long)set->count, (long long)counts.missing,
           (long long)bif_score_unparsed(set));
    *out = json_pack("{s:s,s:s,s:o,s:I,s:I}", "scored_as", task->name, "norm", task->norms != 0 ? bif_norm_name(a->norm) : "official",
                     "metrics", rows, "not_asked", (json_int_t)counts.missing, "unparsed", (json_int_t)bif_score_unparsed(set));
done:
    free(metrics.items);
    bif_score_close(set);
    return st;
}

/* What is wrong with the output or the references is said before anything is asked. */
static bif_status try_files(const arguments *a)
{
    bif_status st = BIF_OK;
    bif_score_set *set = NULL;
    if (bif_exists(a->out) && !a->overwrite) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--out %s: exists already; name another file, or replace it with --overwrite", a->out));
    }
    if (a->reference_files > 0) {
        BIF_TRY(bif_score_open(score_task(a), a->references, a->reference_files, &set));
    }
done:
    bif_score_close(set);
    return st;
}

static bif_status report(const arguments *a, const bif_session *session, const bif_vqa_result *r)
{
    static const char *const pictures[] = {"as given", "blank", "shuffled"};
    bif_status st = BIF_OK;
    json_t *matches = r->scored > 0 || a->reference_files == 0 ? print_matches(a, r) : NULL, *scores = NULL;
    const char *variant = a->used.variant != NULL ? a->used.variant : "as the file has them",
               *task = a->used.task != NULL ? a->used.task->name : "jsonl";
    if (a->reference_files > 0) {
        BIF_TRY(score(a, &scores));
    }
    printf("%lld questions in %.1f s, %.0f a second; template %s, prompts %s%s (%.8s), data %.8s, pictures %s, %s; "
           "predictions in %s\n",
           (long long)r->questions, r->seconds, (double)(r->questions - r->kept) / r->seconds, bif_template_name(session->chat.kind),
           variant, a->way != BIF_ASK_DECODE ? " without options and suffix" : a->task.suffix != NULL ? " with another suffix" : "", r->prompts,
           json_string_value(json_object_get(r->identity, "questions")), pictures[a->ablate], json_string_value(json_object_get(r->identity, "decoding")), a->out);
    if (r->cut > 0) {
        printf("note: %lld answers have all of the %lld tokens they may have and may be cut (--max-new-tokens)\n", (long long)r->cut,
               (long long)a->decoding.max_new);
    }
    json_t *summary =
        json_pack("{s:o,s:I,s:s,s:s,s:s?,s:s,s:b,s:s,s:s,s:O,s:I,s:f}", "checkpoint", bif_json_text(session->folder), "questions",
                  (json_int_t)r->questions, "task", task, "variant", variant, "suffix", a->used.suffix, "prompts", r->prompts, "blank",
                  a->ablate == BIF_ABLATE_BLANK, "ablate", bif_ablate_name(a->ablate), "template", bif_template_name(session->chat.kind),
                  "identity", r->identity, "answered_before", (json_int_t)r->kept, "seconds", r->seconds);
    json_object_set_new(summary, "limit", json_integer(a->limit)); /* 0 = all */
    json_object_update(summary, matches);
    json_object_update(summary, scores);
    st = bif_save_summary(a->summary, summary);
done:
    json_decref(matches);
    json_decref(scores);
    return st;
}

static bif_status run_eval(void *context, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_session session = {0};
    bif_vqa_result r = {0};
    BIF_TRY(bif_comm_agree(comm, bif_comm_rank(comm) == 0 ? try_files(a) : BIF_OK));
    BIF_TRY(bif_session_open(a->checkpoint, 1u << BIF_MODEL_LLAVA | 1u << BIF_MODEL_DECODER, &a->session, comm, &session));
    BIF_TRY(bif_vqa(&session, comm,
                    &(bif_vqa_options){.source = {.files = a->questions,
                                                  .file_count = a->question_files,
                                                  .shards = a->shards,
                                                  .shard_count = a->shard_files,
                                                  .caption_prompt = a->prompt,
                                                  .image_root = a->image_root},
                                       .prompt = a->used,
                                       .output = a->out,
                                       .batch = a->batch,
                                       .decoding = a->decoding,
                                       .way = a->way,
                                       .threads = bif_comm_threads(comm, a->session.threads),
                                       .ablate = a->ablate,
                                       .limit = a->limit,
                                       .restart = a->restart},
                    &r));
    st = bif_comm_agree(comm, bif_comm_rank(comm) == 0 ? report(a, &session, &r) : BIF_OK);
done:
    json_decref(r.identity);
    bif_session_close(&session);
    return st;
}

static void list_tasks(void)
{
    puts("\ntasks (their variants, the first is the default; scored by the task of bifocal score of the same name):");
    for (int i = 0; bif_prompt_tasks[i] != NULL; i++) {
        const bif_prompt_task *t = bif_prompt_tasks[i];
        printf("  %-10s questions: %s\n  %-10s pictures: %s; at most %lld new tokens\n", t->name, t->questions, "", t->images,
               (long long)t->max_new);
        for (int v = 0; v < BIF_PROMPT_VARIANTS && t->variant[v].name != NULL; v++) {
            printf("  %-10s %s: %s\n", "", t->variant[v].name, t->variant[v].text);
        }
    }
}

static bif_status check_eval(arguments *a)
{
    bif_status st = BIF_OK;
    if (a->question_files + a->shard_files == 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "eval: --questions or --shards is missing; see bifocal eval --help"));
    }
    if (a->shard_files > 0 && a->image_root != NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--image-root does not go with --shards, where the pictures are"));
    }
    if (a->question_files == 0 && a->task.task != NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--task wants --questions: samples of shards are asked as they stand, and scored by bifocal score"));
    }
    if (a->prompt != NULL && a->question_files > 0) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--prompt is for captions of --shards; --questions has prompts of its own"));
    }
    BIF_TRY(bif_option_need("eval", "out", a->out));
    BIF_TRY(bif_option_writable("out", a->out));
    BIF_TRY(bif_option_writable("summary", a->summary));
    BIF_TRY(bif_option_apart("out", a->out, a->questions, a->question_files));
    BIF_TRY(bif_option_apart("out", a->out, a->references, a->reference_files));
    BIF_TRY(bif_option_apart("summary", a->summary, a->questions, a->question_files));
    BIF_TRY(bif_option_apart("summary", a->summary, a->references, a->reference_files));
    BIF_TRY(bif_prompt_choose(&a->task, &a->used));
    const bool boxes = a->used.task != NULL && bif_score_task_by_name(a->used.task->name)->boxes;
    if (boxes != (a->boxes.unit != BIF_BOX_NONE) && (!boxes || a->reference_files > 0)) {
        BIF_TRY(
            bif_fail(BIF_ERR_USAGE,
                     boxes ? "task %s with --references wants --box-space; see bifocal score --help" : "--box-space goes with task refcoco",
                     boxes ? a->used.task->name : ""));
    }
    if (a->norm_given) {
        BIF_TRY(a->reference_files > 0 ? BIF_OK : bif_fail(BIF_ERR_USAGE, "--norm goes with --references: without them nothing is scored by a norm"));
        BIF_TRY(bif_score_has_norm(score_task(a), a->norm));
    } else {
        a->norm = score_task(a)->usual;
    }
    if (a->way != BIF_ASK_DECODE && (a->decoding.beams > 1 || a->decoding.temperature > 0.0)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "--rank takes the likeliest option and decodes nothing; leave --beams and --temperature out"));
    }
    a->decoding.max_new = a->decoding.max_new > 0 ? a->decoding.max_new : a->used.task != NULL ? a->used.task->max_new : 16;
    const bool folder = a->question_files > 0 && a->used.task != NULL && bif_is_folder(a->questions[0]);
    a->image_root = a->image_root != NULL ? a->image_root : folder ? a->questions[0] : ".";
done:
    return st;
}

bif_status bif_cmd_eval(int argc, char **argv)
{
    bif_status st = BIF_OK;
    bool done = false;
    arguments a = {.batch = 64, .decoding = {.top_p = 1.0, .length_penalty = 1.0}};
    a.questions = bif_calloc((size_t)argc, sizeof *a.questions);
    a.references = bif_calloc((size_t)argc, sizeof *a.references);
    a.shards = bif_calloc((size_t)argc, sizeof *a.shards);
    BIF_TRY(parse(argc, argv,
                  "usage: bifocal eval CHECKPOINT [--task NAME] --questions FILE --image-root DIR --out PREDICTIONS.jsonl [...]\n"
                  "       bifocal eval CHECKPOINT --shards PATH... --out PREDICTIONS.jsonl [...]\n\n"
                  "Answers every question in batches (greedily unless told otherwise), shared over the ranks of mpirun, and scores exact "
                  "matches (case, white\n"
                  "space around and one trailing period aside), or with --references by a benchmark's rules. CHECKPOINT: a Hugging Face "
                  "folder, or a run's\n"
                  "folder (newest checkpoint). Answers are kept beside PREDICTIONS.jsonl as they are found: the same command goes on after "
                  "a kill, on any\n"
                  "number of ranks. Of a conversation in --shards every human turn is a question, with the turns before it as they stand.\n",
                  &a, &done));
    if (done) {
        list_tasks();
    } else {
        BIF_TRY(check_eval(&a));
        BIF_TRY(bif_with_comm(run_eval, &a));
    }
done:
    free(a.questions);
    free(a.references);
    free(a.shards);
    return st;
}

/* ---- generate ---- */

static bif_status run_generate(void *context, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_session session = {0};
    bif_encoded prompt = {0};
    const int64_t places = bif_chat_placeholders(a->prompt);
    bif_generator *generator = NULL;
    bif_ids answer = {0};
    uint8_t *pixels = NULL;
    char *text = NULL;
    if (places > 0 && places != a->pictures) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "--prompt: %lld <image> placeholders but %lld pictures; as many, or none", (long long)places,
                         (long long)a->pictures));
    }
    BIF_TRY(bif_session_open(a->checkpoint, 1u << BIF_MODEL_LLAVA | 1u << BIF_MODEL_DECODER, &a->session, comm, &session));
    if (a->pictures > 0 && session.model.kind != BIF_MODEL_LLAVA) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s is a decoder alone and cannot look at pictures", session.folder));
    }
    const int64_t bytes = 3 * session.model.vit.image * session.model.vit.image;
    pixels = bif_calloc((size_t)(a->pictures * bytes), sizeof *pixels);
    for (int64_t i = 0; i < a->pictures; i++) {
        BIF_TRY(bif_session_image_file(&session, a->picture[i], pixels + i * bytes));
    }
    BIF_TRY(bif_chat_prompt(&session.chat, a->prompt, a->pictures, &prompt));
    const bif_generator_limits limits = {
        .batch = 1, .max_prompt = (int64_t)prompt.ids.count, .max_images = a->pictures, .decoding = a->decoding};
    BIF_TRY(bif_generator_new(&session, &limits, &generator));
    BIF_TRY(bif_generate(generator, &(bif_request){.prompt = &prompt, .pixels = pixels, .images = a->pictures}, 1, &answer));
    BIF_TRY(bif_answer_text(&session, &answer, &text));
    if (bif_comm_rank(comm) == 0) {
        json_t *value =
            a->json ? json_pack("{s:s,s:s,s:I}", "prompt", a->prompt, "answer", text, "tokens", (json_int_t)answer.count) : NULL;
        char *line = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;
        puts(line != NULL ? line : text);
        free(line);
        json_decref(value);
    }
done:
    bif_generator_free(generator);
    bif_encoded_free(&prompt);
    bif_ids_free(&answer);
    free(pixels);
    free(text);
    bif_session_close(&session);
    return st;
}

bif_status bif_cmd_generate(int argc, char **argv)
{
    bif_status st = BIF_OK;
    bool done = false;
    arguments a = {.decoding = {.max_new = 128, .top_p = 1.0, .length_penalty = 1.0}};
    BIF_TRY(
        parse(argc, argv,
              "usage: bifocal generate CHECKPOINT [--image FILE]... --prompt TEXT [...]\n\n"
              "Answers one prompt, greedily unless told otherwise. Pictures come before the prompt unless it places them with <image>.\n",
              &a, &done));
    if (!done) {
        BIF_TRY(bif_option_need("generate", "prompt", a.prompt));
        BIF_TRY(bif_with_comm(run_generate, &a));
    }
done:
    return st;
}

/* ---- probe ---- */

static bif_status run_probe(void *context, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_session session = {0};
    BIF_TRY(bif_session_open(a->checkpoint, ~0u, &a->session, comm, &session));
    if (bif_comm_rank(comm) == 0) {
        st = bif_probe(&session, a->samples, a->image_root, a->out, a->session.gradients);
    }
    st = bif_comm_agree(comm, st);
done:
    bif_session_close(&session);
    return st;
}

bif_status bif_cmd_probe(int argc, char **argv)
{
    bif_status st = BIF_OK;
    bool done = false;
    arguments a = {0};
    BIF_TRY(parse(
        argc, argv,
        "usage: bifocal probe CHECKPOINT SAMPLES.jsonl --image-root DIR --out X.safetensors [--grad]\n\n"
        "Runs LLaVA-style samples laid end to end and writes input_ids [T] (an image position holds the image token's id), labels [T]\n"
        "(unshifted, -100 = unsupervised), cu_seqlens, pixel_values, logits [T, V] and loss (mean over supervised tokens).\n"
        "Of a CLIP pair: n records {\"image\", \"caption\" or \"text\"} as one batch; input_ids [n, L] (filled with EOS), lengths,\n"
        "pixel_values, image_embeds and text_embeds [n, E], logits_per_image [n, n] and the contrastive loss.\n",
        &a, &done));
    if (!done) {
        BIF_TRY(a.samples != NULL ? BIF_OK : bif_fail(BIF_ERR_USAGE, "probe: name a JSONL of samples; see bifocal probe --help"));
        BIF_TRY(bif_option_need("probe", "out", a.out));
        BIF_TRY(bif_option_writable("out", a.out));
        BIF_TRY(bif_option_apart("out", a.out, &a.samples, 1));
        a.image_root = a.image_root != NULL ? a.image_root : ".";
        BIF_TRY(bif_with_comm(run_probe, &a));
    }
done:
    return st;
}
