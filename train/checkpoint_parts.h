/* What a checkpoint is made of, for checkpoint.c. */
#pragma once
#include <jansson.h>

#include "train/checkpoint.h"

/* This rank's moments (and masters' lower halves) into FOLDER/NAME (train/checkpoint.h says how); digest and length of the file. */
bif_status bif_moments_write(const char *folder, const char *name, bif_device *device, const bif_params *params,
                             const bif_moments *moments, char digest[33], uint64_t *bytes);
/* Fills this rank's part, all that is not NULL in `moments`, from all files of FOLDER, written by any number of ranks. A gap is BIF_ERR_DATA
 * naming the parameter. */
bif_status bif_moments_read(const char *folder, int64_t world, bif_device *device, const bif_params *params, bif_moments *moments);
/* "trainer/optimizer-0000-of-0002.safetensors"; malloc'ed. */
char *bif_moments_name(int64_t rank, int64_t world);

/* dtype is written instead of state->dtype. */
bif_status bif_run_state_write(const char *folder, const bif_run_state *state, bif_dtype dtype, int world);
bif_status bif_run_state_read(const char *folder, bif_run_state *state, int64_t *world);

/* files: array of {"name", "bytes", "digest"}; stolen. */
bif_status bif_manifest_write(const char *folder, int64_t step, json_t *files);
