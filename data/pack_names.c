/* Names of shards and of staging folders. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/column.h"
#include "data/pack_parts.h"

#define PUBLISHING "publishing.json" /* in a staging folder: all shards are complete, and these get their names now */

int64_t bif_pack_shard_number(const char *name, const char *prefix)
{
    const size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) != 0 || name[n] != '-') {
        return -1;
    }
    const size_t digits = strspn(name + n + 1, "0123456789");
    return digits >= 5 && digits < 16 && strcmp(name + n + 1 + digits, ".h5") == 0 ? (int64_t)strtoll(name + n + 1, NULL, 10) : -1;
}

char *bif_pack_source_name(const bif_pack_options *options, const char *tar)
{
    if (options->source != NULL) {
        return bif_strdup(options->source);
    }
    char *folder = tar != NULL ? bif_path_parent(tar) : bif_is_folder(options->input) ? bif_strdup(options->input) : NULL;
    if (folder == NULL) {
        return bif_strdup(bif_path_base(options->input));
    }
    char *real = realpath(folder, NULL); /* "." and "x/" have names too */
    char *name = bif_strdup(bif_path_base(real != NULL ? real : folder));
    free(real);
    free(folder);
    return name;
}

/* Calls use(context, number, path) for the shards of the prefix. */
static bif_status each_shard(const bif_pack_options *options, bif_status (*use)(void *context, int64_t number, const char *path),
                             void *context)
{
    bif_status st = BIF_OK;
    DIR *folder = opendir(options->out);
    if (folder == NULL) {
        return bif_fail_errno(errno, "cannot list the folder '%s'", options->out);
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL && st == BIF_OK;) {
        const int64_t number = bif_pack_shard_number(entry->d_name, options->prefix);
        if (number >= 0) {
            char *path = bif_path_join(options->out, entry->d_name);
            st = use(context, number, path);
            free(path);
        }
    }
    closedir(folder);
    return st;
}

static bif_status see_number(void *context, int64_t number, const char *path)
{
    int64_t *next = context;
    (void)path;
    *next = number >= *next ? number + 1 : *next;
    return BIF_OK;
}

bif_status bif_pack_next_number(const bif_pack_options *options, int64_t *next)
{
    *next = 0;
    return each_shard(options, see_number, next);
}

/* What hash, embed and others computed of a shard that goes. */
static bif_status remove_columns(const char *path)
{
    char *folder = bif_column_folder(path);
    const bif_status st = bif_remove_tree(folder);
    free(folder);
    return st;
}

static bif_status remove_shard(void *context, int64_t number, const char *path)
{
    const int64_t *from = context;
    const bif_status st = number < *from ? BIF_OK : remove_columns(path);
    return st != BIF_OK || number < *from || unlink(path) == 0 ? st : bif_fail_errno(errno, "cannot remove '%s'", path);
}

static bif_status remove_from(const bif_pack_options *options, int64_t number)
{
    return each_shard(options, remove_shard, &number);
}

static char *final_name(const bif_pack_options *o, int64_t number)
{
    return bif_format("%s/%s-%05lld.h5", o->out, o->prefix, (long long)number);
}

/* Renames what still stands in the staging folder. Of a pack that replaces, shards behind its own are those of a longer earlier one: they
 * go, and so do the columns of all that it replaces. */
static bif_status give_names(const bif_pack_options *o, const char *staging, const json_t *names, bool replaces)
{
    bif_status st = BIF_OK;
    const char *from;
    json_t *number;
    json_object_foreach((json_t *)(uintptr_t)names, from, number) {
        char *old = bif_path_join(staging, from), *new = final_name(o, (int64_t)json_integer_value(number));
        if (bif_exists(old)) {
            st = replaces ? remove_columns(new) : BIF_OK;
            st = st != BIF_OK ? st : rename(old, new) == 0 ? BIF_OK : bif_fail_errno(errno, "cannot rename '%s' to '%s'", old, new);
        }
        free(new);
        free(old);
        if (st != BIF_OK) {
            return st;
        }
    }
    st = replaces ? remove_from(o, (int64_t)json_object_size(names)) : BIF_OK;
    return st == BIF_OK ? bif_fsync_dir(o->out) : st;
}

/* Names given before a failure: away with them. What --overwrite replaced is gone. */
static void take_back(const bif_pack_options *o, const char *staging, const char *list, const json_t *names)
{
    const char *from;
    unlink(list); /* first: from here on nobody finishes it */
    json_t *number;
    json_object_foreach((json_t *)(uintptr_t)names, from, number) {
        char *old = bif_path_join(staging, from), *new = final_name(o, (int64_t)json_integer_value(number));
        if (!bif_exists(old)) {
            unlink(new);
        }
        free(new);
        free(old);
    }
}

bif_status bif_pack_publish(const bif_pack_plan *plan, const int64_t *shards, int64_t first)
{
    bif_status st = BIF_OK;
    const bif_pack_options *o = plan->options;
    json_t *names = json_object(), *note = json_pack("{s:b,s:o}", "overwrite", o->overwrite, "names", names);
    char *list = bif_path_join(plan->staging, PUBLISHING);
    int64_t number = first;
    for (int64_t unit = 0; unit < plan->units; unit++) {
        for (int64_t i = 0; i < shards[unit]; i++) {
            char *path = bif_pack_unit_shard(plan, unit, i), *new = final_name(o, number);
            json_object_set_new(names, bif_path_base(path), json_integer(number++));
            if (!o->overwrite && bif_exists(new)) {
                st = bif_fail(BIF_ERR_USAGE, "'%s' has appeared while this pack was at work; nothing was replaced", new);
            }
            free(new);
            free(path);
            if (st != BIF_OK) {
                goto done;
            }
        }
    }
    BIF_TRY(bif_json_save_file(list, note)); /* from here on the next pack of the prefix finishes the work of a killed one */
    st = give_names(o, plan->staging, names, o->overwrite);
    if (st != BIF_OK) {
        take_back(o, plan->staging, list, names);
    }
done:
    free(list);
    json_decref(note);
    return st;
}

/* A pack that was killed while its shards got their names: they get the rest of them. */
static bif_status finish_killed(const bif_pack_options *options, const char *staging)
{
    bif_status st = BIF_OK;
    json_t *note = NULL;
    char *list = bif_path_join(staging, PUBLISHING);
    if (bif_exists(list)) {
        BIF_TRY(bif_json_load_file(list, (size_t)1 << 30, &note));
        json_t *names = json_object_get(note, "names");
        if (!json_is_object(names) || !json_is_boolean(json_object_get(note, "overwrite"))) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "'%s' is damaged; remove its folder", list));
        }
        const char *from;
        json_t *number;
        json_object_foreach(names, from, number) {
            if (strncmp(from, "unit-", 5) != 0 || strchr(from, '/') != NULL || !json_is_integer(number) || json_integer_value(number) < 0) {
                BIF_TRY(bif_fail(BIF_ERR_DATA, "'%s' is damaged; remove its folder", list));
            }
        }
        bif_warn("a pack of '%s' was killed while its shards got their names; they get the rest of them now", options->prefix);
        BIF_TRY(give_names(options, staging, names, json_is_true(json_object_get(note, "overwrite"))));
    }
done:
    json_decref(note);
    free(list);
    return st;
}

/* Does the process live? A killed one that nobody waited for (in a container, for instance) does not. */
static bool lives(long process)
{
    if (process > INT32_MAX || (kill((pid_t)process, 0) != 0 && errno == ESRCH)) {
        return false;
    }
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%ld/stat", process);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
    }
    const char *name_end = strrchr(text, ')'); /* "pid (name) state ..." */
    return name_end == NULL || name_end[1] != ' ' || name_end[2] != 'Z';
}

bif_status bif_pack_sweep(const bif_pack_options *options)
{
    bif_status st = BIF_OK;
    char *start = bif_format(".%s-packing-", options->prefix);
    const size_t n = strlen(start);
    DIR *folder = opendir(options->out);
    if (folder == NULL) {
        BIF_TRY(bif_fail_errno(errno, "cannot list the folder '%s'", options->out));
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL && st == BIF_OK;) {
        const char *pid = entry->d_name + n;
        if (strncmp(entry->d_name, start, n) != 0 || *pid == '\0' || pid[strspn(pid, "0123456789")] != '\0') {
            continue;
        }
        const long process = strtol(pid, NULL, 10);
        if (process != (long)getpid() && lives(process)) {
            continue;
        }
        char *path = bif_path_join(options->out, entry->d_name);
        st = finish_killed(options, path);
        st = st == BIF_OK ? bif_remove_tree(path) : st;
        free(path);
    }
    closedir(folder);
done:
    free(start);
    return st;
}
