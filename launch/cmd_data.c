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
#include "data/shard.h"
#include "launch/commands.h"

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
