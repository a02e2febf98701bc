/* bifocal data embed */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "eval/embed_columns.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/team.h"

static const char embed_help[] =
    "usage: bifocal data embed CHECKPOINT [--name NAME] [--image] [--text] SHARD...\n\n"
    "Writes embeddings by a checkpoint as columns beside the shards: NAME.image a picture, NAME.text a sample (its caption, or the first\n"
    "answer of a conversation), f16 rows of length 1. A CLIP or SigLIP pair embeds both into its joint space; a LLaVA pictures alone (mean\n"
    "of the features that its projector gets), and so does a vision tower alone (what it pools). What cannot be embedded is a row of zeros\n"
    "and a line in SHARD.columns/embed-errors.jsonl. Ranks (mpirun) share the shards; columns do not depend on their number, and those\n"
    "that are there already, made in the same way, are kept: an interrupted run goes on. Memory: the model, one batch, one shard's columns.\n\n"
    "  --name NAME            of the columns (clip)\n"
    "  --caption-column NAME  texts of the text column NAME, or caption-NAME (bifocal data recaption); where it has none, the shard's own\n"
    "  --image                pictures only\n"
    "  --text                 texts only; with --image both, which is the default of a pair\n"
    "  --overwrite            replaces columns of that name that were made in another way\n"
    "  --batch N              pictures or texts at a time (32)\n"
    "  --image-fit NAME       crop, pad or squash (default: as trained)\n"
    "  --tokenizer PATH       tokenizer.json (default: the checkpoint's)\n"
    "  --base FOLDER          of an adapter: the model it stands on (default: the one it names)\n"
    "  --tower FOLDER         with the vision tower of a LLaVA (default: its own)\n"
    "  --device NAME          cpu, cuda, cuda:N or auto (cpu)\n"
    "  --precision NAME       auto, fp32 or bf16 (auto: bf16 on CUDA, fp32 on the CPU)\n"
    "  --threads N            CPU threads of a rank (0 = the cores divided by the ranks of the node)\n"
    "  --quiet                only warnings\n";

typedef struct {
    const char *checkpoint;
    char **shards;
    int shard_count;
    bif_session_options session;
    bif_embedder_options embedder;
    bif_embed_columns_options columns;
} arguments;

static bif_status run(void *context, const bif_team *team, bif_comm *comm)
{
    bif_status st = BIF_OK;
    const arguments *a = context;
    bif_pool pool = {0};
    bif_embedder *embedder = NULL;
    bif_embed_columns_result r;
    BIF_TRY(team->agree(team->context, bif_pool_open((const char *const *)a->shards, (size_t)a->shard_count, &pool)));
    BIF_TRY(bif_embedder_open(a->checkpoint, &a->session, &a->embedder, comm, &embedder));
    BIF_TRY(bif_embed_columns(&pool, team, embedder, &a->columns, &r));
    if (team->rank == 0) {
        printf("embedded %lld pictures (%lld of them zero) and %lld texts (%lld zero): %lld columns of %lld numbers a row in %lld shards",
               (long long)r.images, (long long)r.bad_images, (long long)r.texts, (long long)r.bad_texts, (long long)r.columns,
               (long long)bif_embedder_width(embedder), (long long)pool.shards);
        printf(r.present > 0 ? "; %lld columns were there\n" : "\n", (long long)r.present);
    }
done:
    bif_embedder_close(embedder);
    st = bif_pool_verdict(&pool, st);
    bif_pool_close(&pool);
    return st;
}

bif_status bif_cmd_data_embed(int argc, char **argv)
{
    enum { NAME = 1, CAPTION_COLUMN, IMAGE, TEXT, OVERWRITE, BATCH, FIT, TOKENIZER, BASE, TOWER, DEVICE, PRECISION, THREADS, QUIET, HELP };
    static const struct option options[] = {{"name", required_argument, NULL, NAME},
                                            {"caption-column", required_argument, NULL, CAPTION_COLUMN},
                                            {"image", no_argument, NULL, IMAGE},
                                            {"text", no_argument, NULL, TEXT},
                                            {"overwrite", no_argument, NULL, OVERWRITE},
                                            {"batch", required_argument, NULL, BATCH},
                                            {"image-fit", required_argument, NULL, FIT},
                                            {"tokenizer", required_argument, NULL, TOKENIZER},
                                            {"base", required_argument, NULL, BASE},
                                            {"tower", required_argument, NULL, TOWER},
                                            {"device", required_argument, NULL, DEVICE},
                                            {"precision", required_argument, NULL, PRECISION},
                                            {"threads", required_argument, NULL, THREADS},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    bif_status st = BIF_OK;
    int64_t threads = 0;
    arguments a = {.session.device = "cpu", .embedder.batch = 32, .columns.name = "clip"};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case NAME: a.columns.name = optarg; break;
        case CAPTION_COLUMN:
            BIF_TRY(bif_option_whole_column("caption-column", optarg));
            a.columns.caption_column = optarg;
            break;
        case IMAGE: a.embedder.image = true; break;
        case TEXT: a.embedder.text = true; break;
        case OVERWRITE: a.columns.overwrite = true; break;
        case BATCH: BIF_TRY(bif_option_batch("batch", optarg, &a.embedder.batch)); break;
        case FIT: a.session.image_fit = optarg; break;
        case TOKENIZER: a.session.tokenizer = optarg; break;
        case BASE: a.session.beside.base = optarg; break;
        case TOWER: a.session.beside.tower = optarg; break;
        case DEVICE: a.session.device = optarg; break;
        case PRECISION: BIF_TRY(bif_option_precision(optarg, &a.session.precision)); break;
        case THREADS: BIF_TRY(bif_option_number("threads", optarg, 0, &threads)); break;
        case QUIET: bif_log_set_quiet(1); break;
        case HELP: fputs(embed_help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "data embed: wrong option; see bifocal data embed --help"));
        }
    }
    if (argc - optind < 2) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data embed: name a checkpoint and shards; see bifocal data embed --help"));
    }
    BIF_TRY(bif_option_column("name", a.columns.name));
    a.session.threads = (int)threads;
    a.checkpoint = argv[optind++];
    a.shards = argv + optind;
    a.shard_count = argc - optind;
    BIF_TRY(bif_with_team((int)threads, run, &a));
done:
    return st;
}
