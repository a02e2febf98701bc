#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "train/adapter.h"
#include "train/checkpoint_parts.h"
#include "train/hf_folder.h"

/* ---- names in the output folder ---- */

typedef enum { NAME_OTHER, NAME_STEP, NAME_LEFTOVER } name_kind;

/* step_00000100 -> its step; step_N.tmp-ID and trash-ID are what killed saves leave, config.yaml.tmp-ID what a killed start leaves. */
static name_kind kind_of(const char *name, int64_t *step)
{
    if (strncmp(name, "trash-", 6) == 0 || strncmp(name, "config.yaml.tmp-", 16) == 0) {
        return NAME_LEFTOVER;
    }
    const size_t digits = strncmp(name, "step_", 5) == 0 ? strspn(name + 5, "0123456789") : 0;
    if (digits < 1 || digits > 18) {
        return NAME_OTHER;
    }
    *step = (int64_t)strtoll(name + 5, NULL, 10);
    return name[5 + digits] == '\0' ? NAME_STEP : strncmp(name + 5 + digits, ".tmp-", 5) == 0 ? NAME_LEFTOVER : NAME_OTHER;
}

typedef struct {
    int64_t step; /* -1 for a leftover */
    char *path;
} place;

typedef struct {
    place *items;
    size_t count;
} places;

static int newest_first(const void *a, const void *b)
{
    const place *x = a, *y = b;
    return x->step < y->step ? 1 : x->step > y->step ? -1 : 0;
}

/* Checkpoints and leftovers of a folder, newest first. A folder that does not exist has none. */
static bif_status scan(const char *output, places *out)
{
    DIR *dir = opendir(output);
    if (dir == NULL) {
        return errno == ENOENT ? BIF_OK : bif_fail(BIF_ERR_IO, "cannot list '%s': %s", output, strerror(errno));
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        int64_t step = -1;
        const name_kind kind = kind_of(entry->d_name, &step);
        if (kind != NAME_OTHER) {
            out->items = bif_realloc(out->items, out->count + 1, sizeof(*out->items));
            out->items[out->count++] = (place){kind == NAME_STEP ? step : -1, bif_path_join(output, entry->d_name)};
        }
    }
    closedir(dir);
    if (out->count > 0) { /* qsort must not see NULL */
        qsort(out->items, out->count, sizeof(*out->items), newest_first);
    }
    return BIF_OK;
}

static void places_free(places *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->items[i].path);
    }
    free(p->items);
}

/* ---- saving ---- */

typedef struct {
    bif_device *device;
    const char *output, *run_id;
    char *folder; /* OUTPUT/step_N.tmp-ID */
    char *final;  /* OUTPUT/step_N */
    const bif_model_config *config;
    const bif_params *params;
    const char *tokenizer_path;
    const bif_moments *moments;
    const bif_run_state *state;
    const bif_beside *from; /* with adapters */
    int rank, world, keep_last;
} save_job;

static void list_file(json_t *files, const char *name, uint64_t bytes, const char *digest)
{
    json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "name", name, "bytes", (json_int_t)bytes, "digest", digest));
}

/* Small files, and those of adapters, are hashed in a second pass: they are in the page cache. */
static bif_status list_small_files(const char *folder, json_t *files)
{
    static const char *const names[] = {"config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
                                        "tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "merges.txt",
                                        "added_tokens.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
                                        "adapter_config.json", "adapter_model.safetensors", "non_lora_trainables.bin",
                                        "trainer/state.json"};
    bif_status st = BIF_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && st == BIF_OK; i++) {
        char *path = bif_path_join(folder, names[i]), digest[33];
        uint64_t bytes = 0;
        if (bif_exists(path)) {
            st = bif_digest_file(path, digest, &bytes);
            if (st == BIF_OK) {
                list_file(files, names[i], bytes, digest);
            }
        }
        free(path);
    }
    return st;
}

static bif_status prepare(const save_job *job)
{
    bif_status st = BIF_OK;
    places found = {0};
    char *trainer = bif_path_join(job->folder, "trainer");
    BIF_TRY(scan(job->output, &found));
    for (size_t i = 0; i < found.count; i++) {
        if (found.items[i].step < 0) {
            BIF_TRY(bif_remove_tree(found.items[i].path));
        }
    }
    BIF_TRY(bif_make_dirs(trainer));
done:
    free(trainer);
    places_free(&found);
    return st;
}

/* This rank's files into the temporary folder; what they are goes into `files`. Rank 0 also writes what is the same on all ranks. */
static bif_status write_files(const save_job *job, json_t *files)
{
    bif_status st = BIF_OK;
    char digest[33];
    uint64_t bytes = 0;
    char *name = bif_moments_name(job->rank, job->world);
    BIF_TRY(bif_moments_write(job->folder, name, job->device, job->params, job->moments, digest, &bytes));
    list_file(files, name, bytes, digest);
    if (job->rank == 0 && job->config->decoder.lora.rank > 0) {
        BIF_TRY(bif_adapter_write(job->folder, job->config, job->params, job->from));
    } else if (job->rank == 0) {
        BIF_TRY(bif_hf_save_weights(job->folder, job->params, digest, &bytes));
        list_file(files, "model.safetensors", bytes, digest);
        BIF_TRY(bif_hf_config_write(job->folder, job->config, job->params->dtype));
    }
    if (job->rank == 0) {
        BIF_TRY(bif_hf_side_files(job->folder, job->config, job->tokenizer_path));
        BIF_TRY(bif_run_state_write(job->folder, job->state, job->params->dtype, job->world));
        BIF_TRY(list_small_files(job->folder, files));
    }
done:
    free(name);
    return st;
}

/* Moves a folder out of the way under a name that no search takes for a checkpoint, then deletes it. */
static bif_status discard(const save_job *job, const char *path)
{
    bif_status st = BIF_OK;
    char *name = bif_format("trash-%s-%s", job->run_id, bif_path_base(path));
    char *trash = bif_path_join(job->output, name);
    BIF_TRY(bif_rename(path, trash));
    BIF_TRY(bif_remove_tree(trash));
done:
    free(name);
    free(trash);
    return st;
}

static void prune(const save_job *job)
{
    places found = {0};
    bif_status st = scan(job->output, &found);
    int older = 0;
    for (size_t i = 0; st == BIF_OK && i < found.count; i++) {
        const int64_t step = found.items[i].step;
        const bool best = job->state->best_step > 0 && step == job->state->best_step;
        if (step >= 0 && step < job->state->step && !best && ++older >= job->keep_last) {
            st = discard(job, found.items[i].path);
        }
    }
    if (st != BIF_OK) {
        bif_warn("an older checkpoint could not be removed: %s", bif_error_message());
    }
    places_free(&found);
}

/* Rank 0, when all ranks have written: manifest, rename, fsync. `reports` are the ranks' lists as JSON text. */
static bif_status commit(const save_job *job, char **reports, const size_t *sizes)
{
    bif_status st = BIF_OK;
    json_t *files = json_array();
    char *trainer = bif_path_join(job->folder, "trainer");
    for (int r = 0; r < job->world; r++) {
        json_t *list = NULL;
        BIF_TRY(bif_json_parse("list of a rank's files", reports[r], sizes[r], &list));
        json_array_extend(files, list);
        json_decref(list);
    }
    json_t *given = files;
    files = NULL;
    BIF_TRY(bif_manifest_write(job->folder, job->state->step, given));
    BIF_TRY(bif_fsync_dir(trainer));
    BIF_TRY(bif_fsync_dir(job->folder));
    if (bif_exists(job->final)) { /* this step again, after a damaged one was skipped */
        BIF_TRY(discard(job, job->final));
    }
    BIF_TRY(bif_rename(job->folder, job->final));
    prune(job);
done:
    json_decref(files);
    free(trainer);
    return st;
}

/* The collectives of a save, in the same order on every rank whatever happens. */
static bif_status save_together(const save_job *job, bif_comm *comm)
{
    bif_status st = bif_comm_agree(comm, job->rank == 0 ? prepare(job) : BIF_OK);
    if (st != BIF_OK) {
        return st;
    }
    json_t *files = json_array();
    st = bif_comm_agree(comm, write_files(job, files));
    if (st == BIF_OK) {
        char **reports = NULL, *mine = json_dumps(files, JSON_COMPACT);
        size_t *sizes = NULL;
        BIF_BUG_IF(mine == NULL, "a list of files does not encode");
        bif_comm_gather_bytes(comm, mine, strlen(mine), &reports, &sizes);
        st = job->rank == 0 ? commit(job, reports, sizes) : BIF_OK;
        for (int r = 0; reports != NULL && r < job->world; r++) {
            free(reports[r]);
        }
        free(reports);
        free(sizes);
        free(mine);
        st = bif_comm_agree(comm, st);
    }
    json_decref(files);
    return st;
}

bif_status bif_checkpoint_save(bif_comm *comm, bif_device *device, const char *output, const bif_model_config *config,
                               const bif_params *params, const char *tokenizer_path, const bif_moments *moments,
                               const bif_run_state *state, const bif_beside *from, int keep_last)
{
    BIF_BUG_IF(keep_last < 1, "keep_last %d", keep_last);
    BIF_BUG_IF(config->decoder.lora.rank > 0 && from == NULL, "adapters without a base");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char *own = bif_format("%ld-%lld", (long)getpid(), (long long)now.tv_sec);
    char *run_id = bif_comm_broadcast_text(comm, own, 0);
    char *name = bif_format("step_%08" PRId64, state->step);
    save_job job = {.device = device, .output = output, .run_id = run_id, .final = bif_path_join(output, name), .config = config,
                    .params = params, .tokenizer_path = tokenizer_path, .moments = moments, .state = state, .from = from,
                    .rank = bif_comm_rank(comm), .world = bif_comm_world(comm), .keep_last = keep_last};
    job.folder = bif_format("%s.tmp-%s", job.final, run_id);
    bif_status st = save_together(&job, comm);
    if (st != BIF_OK && job.rank == 0) {
        char *reason = bif_strdup(bif_error_message());
        if (bif_remove_tree(job.folder) != BIF_OK) {
            bif_warn("%s could not be removed: %s", job.folder, bif_error_message());
        }
        bif_fail(st, "checkpoint of step %" PRId64 " was not saved: %s", state->step, reason);
        free(reason);
    }
    free(job.folder);
    free(job.final);
    free(name);
    free(run_id);
    free(own);
    return st;
}

/* ---- finding and loading ---- */

/* Rank 0 looks, the others are told: ranks that list a network file system themselves may see different folders. */
bif_status bif_checkpoint_newest(const char *output, char **path)
{
    places found = {0};
    *path = NULL;
    bif_status st = scan(output, &found);
    size_t seen = 0;
    for (size_t i = 0; st == BIF_OK && *path == NULL && i < found.count; i++) {
        if (found.items[i].step < 0) {
            continue;
        }
        seen++;
        if (bif_checkpoint_verify(found.items[i].path) == BIF_OK) {
            *path = bif_strdup(found.items[i].path);
        } else {
            bif_warn("skipping checkpoint %s: %s", found.items[i].path, bif_error_message());
        }
    }
    if (st == BIF_OK && *path == NULL && seen > 0) { /* to begin anew would overwrite what may still be saved by hand */
        st = bif_fail(BIF_ERR_DATA, "%s: none of its %zu checkpoints is whole (see the warnings); restore one, or move the step_* folders away to begin anew",
                      output, seen);
    }
    places_free(&found);
    return st;
}

bif_status bif_checkpoint_last(const char *output, char **path)
{
    places found = {0};
    bif_status st = scan(output, &found);
    *path = st == BIF_OK && found.count > 0 && found.items[0].step >= 0 ? bif_strdup(found.items[0].path) : NULL;
    places_free(&found);
    return st;
}

bif_status bif_checkpoint_find(bif_comm *comm, const char *output, char **path)
{
    bif_status st = BIF_OK;
    char *mine = NULL, *text = NULL;
    *path = NULL;
    BIF_TRY(bif_comm_agree(comm, bif_comm_rank(comm) == 0 ? bif_checkpoint_newest(output, &mine) : BIF_OK));
    text = bif_comm_broadcast_text(comm, mine == NULL ? "" : mine, 0);
    if (text[0] != '\0') {
        *path = text;
        text = NULL;
    }
done:
    free(mine);
    free(text);
    return st;
}

bif_status bif_checkpoint_best(const char *output, char **path)
{
    bif_status st = BIF_OK;
    json_t *value = NULL;
    const char *name = NULL;
    char *file = bif_path_join(output, "best.json");
    *path = NULL;
    if (!bif_exists(file)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: has no best.json; a run that is evaluated as it trains (evaluate.every, evaluate.keep_best) leaves one",
                         output));
    }
    BIF_TRY(bif_json_load_file(file, (size_t)1 << 20, &value));
    BIF_TRY(bif_json_string(file, value, "checkpoint", true, &name));
    if (strncmp(name, "step_", 5) != 0 || strchr(name, '/') != NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: checkpoint '%s' is no folder step_N of the run", file, name));
    }
    *path = bif_path_join(output, name);
    st = bif_checkpoint_verify(*path);
    if (st != BIF_OK) {
        st = bif_fail_context(st, "%s", file);
        free(*path);
        *path = NULL;
    }
done:
    json_decref(value);
    free(file);
    return st;
}

bif_status bif_checkpoint_find_best(bif_comm *comm, const char *output, char **path)
{
    bif_status st = BIF_OK;
    char *mine = NULL;
    *path = NULL;
    BIF_TRY(bif_comm_agree(comm, bif_comm_rank(comm) == 0 ? bif_checkpoint_best(output, &mine) : BIF_OK));
    *path = bif_comm_broadcast_text(comm, mine == NULL ? "" : mine, 0);
done:
    free(mine);
    return st;
}

static bif_status load_mine(bif_device *device, const char *path, bif_params *params, bif_moments *moments, bif_run_state *state)
{
    bif_status st = BIF_OK;
    int64_t world = 0;
    BIF_TRY(bif_run_state_read(path, state, &world));
    if (state->dtype != params->dtype) {
        const char *was = bif_precision_name(state->dtype), *is = bif_precision_name(params->dtype);
        const bool gpu = state->dtype == BIF_DTYPE_BF16 && device->kind == BIF_DEVICE_CPU; /* where precision: bf16 is refused */
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "%s was trained in %s, this run would go on in %s; set precision: %s%s, or another output that "
                         "starts with model.init: %s", path, was, is, was, gpu ? " and device: cuda" : "", path));
    }
    if (bif_params_elements(params, BIF_GROUP_LORA, false) > 0) {
        BIF_TRY(bif_adapter_load(path, params));
    } else {
        BIF_TRY(bif_hf_load(path, params, (1u << BIF_GROUPS) - 1));
    }
    BIF_TRY(bif_moments_read(path, world, device, params, moments));
done:
    return st;
}

bif_status bif_checkpoint_state(bif_comm *comm, const char *path, bif_run_state *state)
{
    int64_t world = 0;
    return bif_comm_agree(comm, bif_run_state_read(path, state, &world));
}

bif_status bif_checkpoint_load(bif_comm *comm, bif_device *device, const char *path, bif_params *params, bif_moments *moments,
                               bif_run_state *state)
{
    return bif_comm_agree(comm, load_mine(device, path, params, moments, state));
}
