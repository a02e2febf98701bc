#include "launch/open_folder.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "train/checkpoint.h"
#include "train/hf_folder.h"

/* A folder without a config.json is a run's, when it holds checkpoints. */
bif_status bif_folder_resolve(const char *path, bool best, char **out)
{
    if (best) {
        return bif_checkpoint_best(path, out);
    }
    struct stat info;
    const bool is_run = stat(path, &info) == 0 && S_ISDIR(info.st_mode) && !bif_hf_is_folder(path);
    *out = NULL;
    const bif_status st = is_run ? bif_checkpoint_newest(path, out) : BIF_OK;
    if (st == BIF_OK && *out == NULL) {
        *out = bif_strdup(path);
    }
    return st;
}

bif_status bif_folder_open(const char *path, const bif_beside *beside, bif_folder *out)
{
    bif_status st = BIF_OK;
    struct stat info;
    *out = (bif_folder){0};
    BIF_TRY(bif_folder_resolve(path, false, &out->path));
    BIF_TRY(bif_hf_open_with(out->path, beside, &out->set));
    const bool is_folder = stat(out->path, &info) == 0 && S_ISDIR(info.st_mode);
    out->known = is_folder && bif_hf_config_read_with(out->path, beside, &out->config) == BIF_OK;
    if (out->known) {
        bif_model_rows(&out->config, &out->rows);
    } else {
        out->why = bif_strdup(is_folder ? bif_error_message() : "one file, without a config.json");
        bif_error_clear();
    }
    out->row_of = bif_match_rows(out->set, &out->rows, &out->found);
done:
    return st;
}

void bif_folder_close(bif_folder *folder)
{
    bif_safetensors_close(folder->set);
    bif_params_free(&folder->rows);
    free(folder->row_of);
    free(folder->path);
    free(folder->why);
    *folder = (bif_folder){0};
}
