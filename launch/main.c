/* bifocal VERB ...: finds the verb, runs it, prints the error. The only file that ends the process. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "launch/commands.h"
#include "launch/team.h"

typedef struct {
    const char *group, *name; /* group NULL: `bifocal NAME`; else `bifocal GROUP NAME` */
    bif_status (*run)(int argc, char **argv);
    const char *what;
    enum { BY_RANKS, BY_ONE } who; /* of a verb that does not use ranks, only the first one under mpirun works and prints */
} verb;

static const verb verbs[] = {
    {NULL, "train", bif_cmd_train, "train a stage: lm, clip, pretrain or finetune", BY_RANKS},
    {NULL, "eval", bif_cmd_eval, "answer a file of questions and score them", BY_RANKS},
    {NULL, "score", bif_cmd_score, "score predictions by a benchmark's own rules", BY_ONE},
    {NULL, "judge-requests", bif_cmd_judge_requests, "what a language model is to be asked about answers that it judges", BY_ONE},
    {NULL, "submit", bif_cmd_submit, "predictions in the form that a benchmark's server takes", BY_ONE},
    {NULL, "report", bif_cmd_report, "scores of tasks and checkpoints as tables and one page, beside published ones", BY_ONE},
    {NULL, "zeroshot", bif_cmd_zeroshot, "zero-shot classification with CLIP towers", BY_RANKS},
    {NULL, "retrieval", bif_cmd_retrieval, "captions found by pictures and pictures by captions with CLIP towers", BY_RANKS},
    {NULL, "linear-probe", bif_cmd_linear_probe, "logistic regression on the pictures' embeddings of a CLIP pair", BY_RANKS},
    {NULL, "generate", bif_cmd_generate, "answer one prompt about a picture", BY_RANKS},
    {NULL, "chat", bif_cmd_chat, "a conversation about pictures on the terminal", BY_RANKS},
    {NULL, "probe", bif_cmd_probe, "write logits, loss and gradients for comparison with another implementation", BY_RANKS},
    {NULL, "import", bif_cmd_import, "weights in others' layouts into a folder that recipes open", BY_ONE},
    {NULL, "export", bif_cmd_export, "a folder of weights into others' layouts", BY_ONE},
    {NULL, "tokenize", bif_cmd_tokenize, "lines of text to token ids, and back", BY_ONE},
    {"data", "pack", bif_cmd_data_pack, "images and conversations or captions into HDF5 shards", BY_RANKS},
    {"data", "verify", bif_cmd_data_verify, "read shards back and check every byte", BY_ONE},
    {"data", "stats", bif_cmd_data_stats, "what is in shards", BY_ONE},
    {"data", "hash", bif_cmd_data_hash, "hashes of pictures and captions: columns beside shards, or JSON lines of files", BY_RANKS},
    {"data", "selection", bif_cmd_data_selection, "what a selection keeps and drops, step by step", BY_ONE},
    {"data", "why", bif_cmd_data_why, "why a sample was dropped, and on whose account", BY_ONE},
    {"data", "undo", bif_cmd_data_undo, "a selection without its last steps", BY_ONE},
    {"data", "diff", bif_cmd_data_diff, "which samples two selections keep differently", BY_ONE},
    {"data", "uids", bif_cmd_data_uids, "uids of the kept samples as DataComp's list", BY_RANKS},
    {"data", "select-uids", bif_cmd_data_select_uids, "a selection from DataComp's list of uids", BY_RANKS},
    {"data", "compact", bif_cmd_data_compact, "new shards of what a selection keeps", BY_RANKS},
    {"data", "show", bif_cmd_data_show, "one sample as tokens with its loss mask", BY_ONE},
    {"data", "embed", bif_cmd_data_embed, "embeddings of pictures and texts by a checkpoint, as columns", BY_RANKS},
    {"data", "dedup", bif_cmd_data_dedup, "drop samples that duplicate others, into a selection", BY_RANKS},
    {"data", "leak", bif_cmd_data_leak, "drop samples that are also in other shards, an evaluation's say", BY_RANKS},
    {"data", "cluster", bif_cmd_data_cluster, "clusters of embeddings (k-means), as columns", BY_RANKS},
    {"data", "import-column", bif_cmd_data_import_column, "scores of another program as a column", BY_ONE},
    {"data", "prune", bif_cmd_data_prune, "drop samples by size, blank pictures, captions, scores", BY_RANKS},
    {"data", "balance", bif_cmd_data_balance, "less of what there is too much of: concepts, clusters, sources, languages", BY_RANKS},
    {"data", "recaption", bif_cmd_data_recaption, "new captions by a LLaVA checkpoint, as a column", BY_RANKS},
    {"data", "tokenizer", bif_cmd_data_tokenizer, "train a byte-level BPE tokenizer", BY_ONE},
    {"checkpoint", "show", bif_cmd_checkpoint_show, "what a folder of weights holds", BY_ONE},
    {"checkpoint", "diff", bif_cmd_checkpoint_diff, "what differs between two folders of weights", BY_ONE},
    {"checkpoint", "verify", bif_cmd_checkpoint_verify, "lengths, offsets, digests, NaN and infinity", BY_ONE},
};

static void usage(FILE *out)
{
    fprintf(out, "bifocal " BIF_VERSION ": train vision-language models from C.\n\nusage: bifocal VERB [ARGUMENTS]; each verb has --help\n\n");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s%s%s", verbs[i].group ? verbs[i].group : "", verbs[i].group ? " " : "", verbs[i].name);
        fprintf(out, "  %-20s %s\n", name, verbs[i].what);
    }
    fprintf(out, "\nexit codes: 0 done, 64 wrong command line, 65 bad data, 70 bug, 71 out of memory, 74 file or disk trouble,\n"
                 "75 stopped but resumable (run the same command again), 78 wrong configuration\n");
}

static const verb *find(int argc, char **argv, int *used)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        const verb *v = &verbs[i];
        const int words = v->group == NULL ? 1 : 2;
        if (argc > words && strcmp(argv[words], v->name) == 0 && (v->group == NULL || strcmp(argv[1], v->group) == 0)) {
            *used = words;
            return v;
        }
    }
    return NULL;
}

static bool is_group(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (verbs[i].group != NULL && strcmp(verbs[i].group, name) == 0) {
            return true;
        }
    }
    return false;
}

void bif_report(bif_status st)
{
    if (bif_error_message()[0] != '\0') {
        fprintf(stderr, "bifocal: %s%s\n", st == BIF_ERR_STOPPED ? "" : "error: ", bif_error_message());
        bif_error_clear();
    }
}

/* OpenMP threads wait for each other by spinning, by default for so long that two of them on one core (which happens as soon as anything else runs)
 * cost a time slice at every barrier: steps of 1.47 s instead of 0.12 s were measured. libgomp reads its settings before main, so the program starts
 * itself again with a shorter spin; then a waiting thread sleeps and wakes up on a free core. */
static void wait_politely(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") == NULL && getenv("OMP_WAIT_POLICY") == NULL && setenv("GOMP_SPINCOUNT", "10000", 1) == 0) {
        execv("/proc/self/exe", argv); /* returns only where there is no /proc: then the default stays */
    }
}

int main(int argc, char **argv)
{
    wait_politely(argv);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? BIF_ERR_USAGE : BIF_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("bifocal " BIF_VERSION "\n");
        return BIF_OK;
    }
    const bool group = is_group(argv[1]);
    if (group && (argc == 2 || strcmp(argv[2], "--help") == 0)) {
        usage(argc == 2 ? stderr : stdout);
        return argc == 2 ? BIF_ERR_USAGE : BIF_OK;
    }
    int used = 0;
    const verb *v = find(argc, argv, &used);
    if (v == NULL) {
        fprintf(stderr, "bifocal: '%s%s%s' is not a verb; see bifocal --help\n", argv[1],
                group && argc > 2 ? " " : "", group && argc > 2 ? argv[2] : "");
        return BIF_ERR_USAGE;
    }
    if (v->who == BY_ONE && bif_launch_rank() > 0) {
        return BIF_OK;
    }
    signal(SIGXFSZ, SIG_IGN); /* a write beyond `ulimit -f` is an error with a message, not the end */
    bif_status st = v->run(argc - used, argv + used);
    if (st == BIF_OK && (fflush(stdout) != 0 || ferror(stdout))) { /* a list that is cut off is no success */
        st = bif_fail(BIF_ERR_IO, "the standard output cannot be written (%s)", strerror(errno));
    }
    if (st != BIF_OK) {
        bif_report(st);
    }
    return (int)st;
}
