/* Weights files looked at from outside: which row of the table each tensor is, what differs between two of them, what is not finite.
 * Numbers are streamed through a fixed buffer; nothing is allocated by the size of a tensor. */
#pragma once
#include "train/model.h"
#include "train/params.h"
#include "train/safetensors.h"

/* The rows of a model's table, declared and not allocated. bif_params_free. A CLIP vision tower alone has its tower's rows. */
void bif_model_rows(const bif_model_config *config, bif_params *out);

/* For each tensor of the set (bif_safetensors_at) the table row it is read as, in whatever layout it is stored, or NULL. malloc'ed; it
 * points into `rows`. found: how many rows have a tensor; may be NULL. */
const bif_param **bif_match_rows(const bif_safetensors *set, const bif_params *rows, int64_t *found);
/* The other way round: the tensor of each row (malloc'ed, [rows->count]). BIF_ERR_DATA naming the first that is missing in the folder, or has
 * another shape (a matrix may lack a row's spare last rows: bif_vocabulary_continues). */
bif_status bif_row_entries(const char *folder, const bif_safetensors *set, const bif_params *rows, const bif_st_entry ***out);

typedef struct {
    bool equal;      /* the same numbers, NaN being equal to NaN */
    double relative; /* ||b - a|| / ||a||, Euclidean; infinite where a is zero and b is not, or where a difference is not finite */
    double largest;  /* of |b - a| */
} bif_difference;
/* Two tensors of the same shape, of any dtypes. */
bif_difference bif_tensor_difference(const bif_st_entry *a, const bif_st_entry *b);
/* Elements that are NaN or infinite; none in integers. */
void bif_tensor_scan(const bif_st_entry *entry, int64_t *nans, int64_t *infinite);
bool bif_same_shape(const bif_st_entry *a, const bif_st_entry *b);
