/* A folder of weights that a verb is told to look at. */
#pragma once
#include "train/compare.h"

typedef struct {
    char *path;              /* as given, or the newest whole checkpoint of a run's folder */
    bif_safetensors *set;
    bool known;              /* config.json is of an architecture that bifocal runs; else `why` says why not, and rows are empty */
    char *why;
    bif_model_config config;
    bif_params rows;         /* declared only */
    const bif_param **row_of; /* for each tensor of the set its row, or NULL */
    int64_t found;           /* rows that have a tensor */
} bif_folder;

/* The folder itself; for a run's folder its newest whole checkpoint, or, best, the one that its best.json names. malloc'ed. */
bif_status bif_folder_resolve(const char *path, bool best, char **out);
/* path: a folder of weights, a run's folder, or one file of weights; beside: with an adapter's base and the tower, NULL = none. */
bif_status bif_folder_open(const char *path, const bif_beside *beside, bif_folder *out);
void bif_folder_close(bif_folder *folder);
