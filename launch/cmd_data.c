/* bifocal data verify */
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
#include "data/column.h"
#include "data/shard.h"
#include "launch/commands.h"

static const char verify_help[] =
    "usage: bifocal data verify SHARD...\n\n"
    "Reads shards back: structure, offsets, the checksum and id of every image, the digest of the whole, and every text as JSON; and the columns that\n"
    "stand beside them: whether they are whole and belong to their shard.\n"
    "A SHARD is a file (*.h5) or a folder of them. Prints one line a file, and one a column that is bad; the exit code is\n"
    "65 when something is.\n";

typedef struct {
    int64_t shards, bad;
    bif_status worst;
} verified;

/* A line for every column beside a shard that is good itself which cannot be used; how many. */
static int64_t verify_columns(const char *path)
{
    int64_t bad = 0;
    bif_shard *shard = NULL;
    char **names = NULL, *folder = bif_column_folder(path);
    size_t count = 0;
    bif_status st = bif_shard_open(path, &shard);
    if (st != BIF_OK || (st = bif_column_list(shard, &names, &count)) != BIF_OK) {
        printf("%s: %s\n", folder, bif_error_message());
        bad++;
    }
    for (size_t i = 0; i < count; i++) {
        bif_column *column = NULL;
        st = bif_column_open(shard, names[i], &column);
        if (st != BIF_OK || column == NULL) {
            const char *reason = st != BIF_OK ? bif_error_message() : "it is not whole: its bytes are gone, or not those that were written";
            printf("column %s/%s: %s\n", folder, names[i], reason);
            bad++;
        }
        bif_column_close(column);
        free(names[i]);
    }
    free(names);
    free(folder);
    bif_shard_close(shard);
    return bad;
}

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
        if (st == BIF_OK && verify_columns(path) > 0) {
            st = BIF_ERR_DATA;
        }
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
