/* bifocal data recaption */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "eval/recaption.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/team.h"

static const char help[] =
    "usage: bifocal data recaption CHECKPOINT --name NAME [--prompt TEXT] [--from IN.sel] [options] SHARD...\n\n"
    "A LLaVA checkpoint writes a new caption for every sample with a picture (of several the first is looked at), as the text column\n"
    "caption-NAME beside the shards; the shards and their own captions stay as they are. Recipes take it as data.caption_column, prune,\n"
    "balance and embed as caption column: NAME is enough. Samples without a picture have no new caption; neither have those whose\n"
    "picture cannot be decoded, which are listed in SHARD.columns/recaption-errors.jsonl. CHECKPOINT: a Hugging Face folder, or a run's\n"
    "folder (newest checkpoint). Ranks (mpirun) share the samples; texts depend neither on their number nor on the batch. They are kept\n"
    "as they are found: the same command goes on after a kill, on any number of ranks, and shards whose column is there already are left\n"
    "alone.\n\n"
    "  --name NAME            the column is caption-NAME\n"
    "  --prompt TEXT          what is asked (\"Describe the picture in one sentence.\")\n"
    "  --from IN.sel          only samples that this selection keeps\n"
    "  --max-new-tokens N     longest caption (64)\n"
    "  --temperature X        sample at this temperature (0: the likeliest token)\n"
    "  --top-p X              sample from the likeliest tokens that make up this share (1)\n"
    "  --top-k N              sample from the N likeliest tokens (0: all)\n"
    "  --seed N               of sampling (0); a token is drawn by seed, the sample's uid and place alone\n"
    "  --beams N              beam search (1: none)\n"
    "  --batch N              pictures at a time (64); does not change a text\n"
    "  --overwrite            replaces a column, or unfinished captions, of that name that were made in another way\n"
    "  --template NAME        " BIF_TEMPLATE_NAMES "\n"
    "                         (default: as trained)\n"
    "  --system TEXT          system text (default: as trained)\n"
    "  --image-fit NAME       crop, pad or squash (default: as trained)\n"
    "  --tokenizer PATH       tokenizer file or folder (default: the checkpoint's)\n"
    "  --base DIR             the base of a LoRA adapter (default: as adapter_config.json says)\n"
    "  --tower DIR            the vision tower, where the checkpoint only names it\n"
    "  --device NAME          cpu, cuda, cuda:N or auto (cpu)\n"
    "  --precision NAME       auto, fp32 or bf16 (auto: bf16 on CUDA, fp32 on the CPU)\n"
    "  --threads N            CPU threads of a rank (0 = the cores divided by the ranks of the node)\n"
    "  --json                 the counts as JSON\n"
    "  --quiet                only warnings\n";

typedef struct {
    const char *checkpoint, *from;
    const char *const *shards;
    size_t shard_count;
    bif_session_options session;
    bif_recaption_options o;
    bool json;
} arguments;

static void print(const arguments *a, const char *method, const bif_recaption_result *r)
{
    if (!a->json) {
        printf("caption-%s: %lld captions written in %.1f s, %lld kept from before, %lld pictures cannot be decoded; ", a->o.name,
               (long long)r->written, r->seconds, (long long)r->kept, (long long)r->bad);
        printf("%lld columns made, %lld were there\n", (long long)r->columns, (long long)r->present);
        return;
    }
    json_t *root = json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:f}", "method", method, "samples", (json_int_t)r->samples, "written",
                             (json_int_t)r->written, "kept", (json_int_t)r->kept, "bad", (json_int_t)r->bad, "columns",
                             (json_int_t)r->columns, "present", (json_int_t)r->present, "seconds", r->seconds);
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

static bif_status run(void *context, const bif_team *team, bif_comm *comm)
{
    const arguments *a = context;
    bif_status st = BIF_OK;
    bif_pool pool = {0};
    bif_selection *selection = NULL;
    bif_session session = {0};
    bif_recaption_result result;
    char *method = NULL;
    st = bif_pool_open(a->shards, a->shard_count, &pool);
    if (st == BIF_OK && a->from != NULL) {
        st = bif_selection_read(a->from, &selection);
        st = st == BIF_OK ? bif_selection_check(selection, a->from, &pool) : st;
    }
    BIF_TRY(team->agree(team->context, st));
    BIF_TRY(bif_session_open(a->checkpoint, 1u << BIF_MODEL_LLAVA, &a->session, comm, &session));
    BIF_TRY(bif_recaption(&session, &pool, selection, &a->o, team, &method, &result));
    if (team->rank == 0) {
        print(a, method, &result);
    }
done:
    free(method);
    bif_session_close(&session);
    bif_selection_free(selection);
    st = bif_pool_verdict(&pool, st);
    bif_pool_close(&pool);
    return st;
}

bif_status bif_cmd_data_recaption(int argc, char **argv)
{
    enum { NAME = 1, PROMPT, FROM, MAX_NEW, TEMPERATURE, TOP_P, TOP_K, SEED, BEAMS, BATCH, OVERWRITE, TEMPLATE, SYSTEM, FIT, TOKENIZER,
           BASE, TOWER, DEVICE, PRECISION, THREADS, JSON, QUIET, HELP };
    static const struct option options[] = {{"name", required_argument, NULL, NAME},
                                            {"prompt", required_argument, NULL, PROMPT},
                                            {"from", required_argument, NULL, FROM},
                                            {"max-new-tokens", required_argument, NULL, MAX_NEW},
                                            {"temperature", required_argument, NULL, TEMPERATURE},
                                            {"top-p", required_argument, NULL, TOP_P},
                                            {"top-k", required_argument, NULL, TOP_K},
                                            {"seed", required_argument, NULL, SEED},
                                            {"beams", required_argument, NULL, BEAMS},
                                            {"batch", required_argument, NULL, BATCH},
                                            {"overwrite", no_argument, NULL, OVERWRITE},
                                            {"template", required_argument, NULL, TEMPLATE},
                                            {"system", required_argument, NULL, SYSTEM},
                                            {"image-fit", required_argument, NULL, FIT},
                                            {"tokenizer", required_argument, NULL, TOKENIZER},
                                            {"base", required_argument, NULL, BASE},
                                            {"tower", required_argument, NULL, TOWER},
                                            {"device", required_argument, NULL, DEVICE},
                                            {"precision", required_argument, NULL, PRECISION},
                                            {"threads", required_argument, NULL, THREADS},
                                            {"json", no_argument, NULL, JSON},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    int64_t n = 0;
    arguments a = {.session.device = "cpu",
                   .o = {.prompt = "Describe the picture in one sentence.",
                         .batch = 64,
                         .decoding = {.max_new = 64, .top_p = 1.0, .length_penalty = 1.0}}};
    for (int c, which = 0; (c = getopt_long(argc, argv, "", options, &which)) != -1;) {
        const char *name = c != '?' ? options[which].name : "";
        switch (c) {
        case NAME: a.o.name = optarg; break;
        case PROMPT: a.o.prompt = optarg; break;
        case FROM: a.from = optarg; break;
        case MAX_NEW: BIF_TRY(bif_option_number(name, optarg, 1, &a.o.decoding.max_new)); break;
        case TEMPERATURE: BIF_TRY(bif_option_real(name, optarg, &a.o.decoding.temperature)); break;
        case TOP_P: BIF_TRY(bif_option_real(name, optarg, &a.o.decoding.top_p)); break;
        case TOP_K: BIF_TRY(bif_option_number(name, optarg, 0, &a.o.decoding.top_k)); break;
        case SEED:
            BIF_TRY(bif_option_number(name, optarg, 0, &n));
            a.o.decoding.seed = (uint64_t)n;
            break;
        case BEAMS: BIF_TRY(bif_option_number(name, optarg, 1, &a.o.decoding.beams)); break;
        case BATCH: BIF_TRY(bif_option_batch(name, optarg, &a.o.batch)); break;
        case OVERWRITE: a.o.overwrite = true; break;
        case TEMPLATE: a.session.template_name = optarg; break;
        case SYSTEM: a.session.system = optarg; break;
        case FIT: a.session.image_fit = optarg; break;
        case TOKENIZER: a.session.tokenizer = optarg; break;
        case BASE: a.session.beside.base = optarg; break;
        case TOWER: a.session.beside.tower = optarg; break;
        case DEVICE: a.session.device = optarg; break;
        case PRECISION: BIF_TRY(bif_option_precision(optarg, &a.session.precision)); break;
        case THREADS:
            BIF_TRY(bif_option_number(name, optarg, 0, &n));
            a.session.threads = (int)n;
            break;
        case JSON: a.json = true; break;
        case QUIET: bif_log_set_quiet(1); break;
        case HELP: fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data recaption: wrong option; see bifocal data recaption --help"));
        }
    }
    if (argc - optind < 2 || a.o.name == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data recaption: name a checkpoint, --name and shards; see bifocal data recaption --help"));
    }
    BIF_TRY(bif_option_column("name", a.o.name));
    a.checkpoint = argv[optind++];
    a.shards = (const char *const *)(argv + optind);
    a.shard_count = (size_t)(argc - optind);
    BIF_TRY(bif_with_team(a.session.threads, run, &a));
done:
    return st;
}
