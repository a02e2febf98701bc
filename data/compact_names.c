#include "data/compact_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/column.h"
#include "data/pack_parts.h"

#define PUBLISHING "publishing.json" /* in staging: a list; entry i of it is the number of the unit whose shard becomes number i */

char *bif_compact_shard_name(const bif_compact_place *place, const char *folder, int64_t number)
{
    return bif_format("%s/%s-%05" PRId64 ".h5", folder, place->prefix, number);
}

char *bif_compact_errors_name(const bif_compact_place *place, int64_t number)
{
    return bif_format("%s/errors-%05" PRId64 ".jsonl", place->staging, number);
}

/* ---- before the work ---- */

static bif_status none_there(const bif_compact_place *place)
{
    bif_status st = BIF_OK;
    DIR *folder = opendir(place->out);
    if (folder == NULL) {
        return bif_fail_errno(errno, "cannot list the folder '%s'", place->out);
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL && st == BIF_OK;) {
        if (bif_pack_shard_number(entry->d_name, place->prefix) >= 0) {
            st = bif_fail(BIF_ERR_USAGE, "'%s/%s' is there already; choose another folder or prefix", place->out, entry->d_name);
        }
    }
    closedir(folder);
    return st;
}

static char *staged(const bif_compact_place *place, const json_t *list, size_t i)
{
    return bif_compact_shard_name(place, place->staging, (int64_t)json_integer_value(json_array_get(list, i)));
}

/* Renames what still stands in staging. A shard's columns get their name before it does, so it is never seen without them. */
static bif_status give_names(const bif_compact_place *place, const json_t *list)
{
    bif_status st = BIF_OK;
    for (size_t i = 0; i < json_array_size(list) && st == BIF_OK; i++) {
        char *from = staged(place, list, i), *to = bif_compact_shard_name(place, place->out, (int64_t)i);
        char *from_columns = bif_column_folder(from), *to_columns = bif_column_folder(to);
        st = bif_exists(from_columns) ? bif_rename(from_columns, to_columns) : BIF_OK;
        st = st == BIF_OK && bif_exists(from) ? bif_rename(from, to) : st;
        free(from);
        free(to);
        free(from_columns);
        free(to_columns);
    }
    return st;
}

static bif_status finish_killed(const bif_compact_place *place)
{
    bif_status st = BIF_OK;
    json_t *list = NULL;
    char *path = bif_path_join(place->staging, PUBLISHING);
    if (!bif_exists(path)) {
        goto done;
    }
    BIF_TRY(bif_json_load_file(path, (size_t)1 << 30, &list));
    bool good = json_is_array(list);
    for (size_t i = 0; good && i < json_array_size(list); i++) {
        good = json_is_integer(json_array_get(list, i));
    }
    if (!good) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "'%s' is damaged; remove its folder", path));
    }
    BIF_TRY(give_names(place, list));
    bif_warn("a data compact of '%s/%s' was killed while its %zu shards got their names; now they all have them", place->out, place->prefix,
             json_array_size(list));
done:
    json_decref(list);
    free(path);
    return st;
}

bif_status bif_compact_begin(const bif_compact_place *place, int *lock)
{
    bif_status st = BIF_OK;
    if (place->prefix[0] == '\0' || place->prefix[0] == '.' || strchr(place->prefix, '/') != NULL) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "the prefix '%s' must be a plain file name that does not start with a dot", place->prefix));
    }
    BIF_TRY(bif_make_dirs(place->out));
    *lock = open(place->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) {
        BIF_TRY(bif_fail_errno(errno, "cannot open the folder '%s'", place->out));
    }
    if (flock(*lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) { /* file systems without locks: go on */
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: another `data compact` writes to this folder; wait for it, or choose another", place->out));
    }
    BIF_TRY(finish_killed(place));
    BIF_TRY(bif_remove_tree(place->staging));
    BIF_TRY(none_there(place));
    BIF_TRY(bif_make_dirs(place->staging));
done:
    return st;
}

/* ---- at the end ---- */

static bif_status publish_errors(const bif_compact_place *place, int64_t units)
{
    bif_status st = BIF_OK;
    bif_writer *out = NULL;
    char *to = bif_format("%s/%s-errors.jsonl", place->out, place->prefix), *from = NULL, *text = NULL;
    if (unlink(to) != 0 && errno != ENOENT) {
        BIF_TRY(bif_fail_errno(errno, "cannot remove the old '%s'", to));
    }
    for (int64_t number = 0; number < units; number++) {
        size_t size = 0;
        free(from);
        free(text);
        text = NULL;
        from = bif_compact_errors_name(place, number);
        if (!bif_exists(from)) {
            continue;
        }
        if (out == NULL) {
            BIF_TRY(bif_writer_open(to, &out));
        }
        BIF_TRY(bif_file_read(from, SIZE_MAX / 2, &text, &size));
        BIF_TRY(bif_writer_write(out, text, size));
    }
    if (out != NULL) {
        bif_writer *finished = out;
        out = NULL;
        BIF_TRY(bif_writer_commit(finished));
    }
done:
    bif_writer_abandon(out);
    free(from);
    free(to);
    free(text);
    return st;
}

/* Names given before a failure: away with them; the sources still have all of it. */
static void take_back(const bif_compact_place *place, const json_t *list)
{
    char *why = bif_strdup(bif_error_message());
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *from = staged(place, list, i), *to = bif_compact_shard_name(place, place->out, (int64_t)i);
        char *columns = bif_column_folder(to);
        if (!bif_exists(from)) {
            unlink(to);
        }
        (void)bif_remove_tree(columns);
        free(from);
        free(to);
        free(columns);
    }
    (void)bif_fail(BIF_ERR_IO, "%s", why);
    free(why);
}

bif_status bif_compact_publish(const bif_compact_place *place, int64_t units, int64_t *shards)
{
    bif_status st = BIF_OK;
    json_t *list = json_array();
    char *path = bif_path_join(place->staging, PUBLISHING);
    BIF_TRY(publish_errors(place, units));
    for (int64_t number = 0; number < units; number++) {
        char *from = bif_compact_shard_name(place, place->staging, number);
        if (bif_exists(from)) { /* not one whose samples are all broken */
            char *to = bif_compact_shard_name(place, place->out, (int64_t)json_array_size(list)), *columns = bif_column_folder(to);
            st = bif_remove_tree(columns); /* of a shard that is no more */
            json_array_append_new(list, json_integer((json_int_t)number));
            free(to);
            free(columns);
        }
        free(from);
        if (st != BIF_OK) {
            goto done;
        }
    }
    *shards = (int64_t)json_array_size(list);
    if (*shards == 0) {
        goto done;
    }
    BIF_TRY(bif_json_save_file(path, list)); /* from here on the next run of the prefix finishes the work of a killed one */
    st = give_names(place, list);
    if (st != BIF_OK) {
        take_back(place, list);
    }
done:
    json_decref(list);
    free(path);
    return st;
}
