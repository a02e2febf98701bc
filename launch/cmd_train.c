/* bifocal train CONFIG [--set a.b=c ...] */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "eval/during.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/with_comm.h"
#include "train/plan.h"
#include "train/trainer.h"

static const char help[] =
    "usage: bifocal train CONFIG.yaml [--set KEY=VALUE]... [--check | --plan [--ranks N]] [--help-config]\n"
    "       mpirun -n RANKS bifocal train CONFIG.yaml ...\n\n"
    "Runs one stage of training from a recipe, or continues it from the newest valid checkpoint in its output folder.\n\n"
    "  --set KEY=VALUE   set a key of the recipe (repeatable; the last one wins), for example --set optimizer.lr=1e-3\n"
    "  --check           read and check the recipe, print it resolved, and stop\n"
    "  --plan            print what trains and how much memory a rank takes, from the recipe and, of the folders it names,\n"
    "                    config.json and the tokenizer, and stop: no GPU, weights or data are needed (a stage 2 reads its stage 1);\n"
    "                    the questions of evaluate are read, if they are there, and what they take is counted\n"
    "  --ranks N         of so many ranks (1)\n"
    "  --help-config     print every key of a recipe with type, range, default and meaning\n";

#define RANKS_MAX 1000000

typedef struct {
    const bif_config *config;
    bool plan;
    int64_t ranks;
} job;

static bif_status run(void *context, bif_comm *comm)
{
    const job *j = context;
    if (j->plan && bif_comm_world(comm) > 1) {
        return bif_fail(BIF_ERR_USAGE, "train: --plan is for one process; name the ranks with --ranks");
    }
    bif_during *during = bif_during_new();
    const bif_evaluator evaluator = bif_during_evaluator(during), *used = j->config->evaluate.every > 0 ? &evaluator : NULL;
    const bif_status st = j->plan ? bif_plan_recipe(j->config, (int)j->ranks, used, comm) : bif_train(j->config, comm, used);
    bif_during_free(during);
    return st;
}

bif_status bif_cmd_train(int argc, char **argv)
{
    static const struct option options[] = {{"set", required_argument, NULL, 's'},
                                            {"check", no_argument, NULL, 'c'},
                                            {"plan", no_argument, NULL, 'p'},
                                            {"ranks", required_argument, NULL, 'r'},
                                            {"help-config", no_argument, NULL, 'k'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    bif_config config = {0};
    const char **sets = bif_calloc((size_t)argc, sizeof *sets);
    size_t count = 0;
    bool check = false, ranks = false;
    job work = {.config = &config, .ranks = 1};
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            sets[count++] = optarg;
            break;
        case 'c':
            check = true;
            break;
        case 'p':
            work.plan = true;
            break;
        case 'r':
            BIF_TRY(bif_option_number("ranks", optarg, 1, &work.ranks));
            BIF_TRY(work.ranks <= RANKS_MAX ? BIF_OK : bif_fail(BIF_ERR_USAGE, "--ranks: up to %d", RANKS_MAX));
            ranks = true;
            break;
        case 'k': {
            char *text = bif_config_reference();
            fputs(text, stdout);
            free(text);
            goto done;
        }
        case 'h':
            fputs(help, stdout);
            goto done;
        default:
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "train: wrong option; see bifocal train --help"));
        }
    }
    if (optind + 1 != argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "train: name one recipe (CONFIG.yaml); see bifocal train --help"));
    }
    if ((ranks && !work.plan) || (check && work.plan)) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "train: %s", ranks && !work.plan ? "--ranks goes with --plan" : "either --check or --plan"));
    }
    BIF_TRY(bif_config_load(argv[optind], sets, count, &config));
    BIF_TRY(bif_during_check(&config));
    if (check) {
        char *text = bif_config_text(&config);
        fputs(text, stdout);
        free(text);
        goto done;
    }
    BIF_TRY(bif_with_comm(run, &work));
done:
    bif_config_free(&config);
    free(sets);
    return st;
}
