/* Where a row of the table is found in somebody's folder: the layouts of Hugging Face and of LLaVA's authors. */
#pragma once
#include "train/params.h"
#include "train/safetensors.h"

typedef enum { BIF_PART_VISION, BIF_PART_TEXT, BIF_PART_DECODER, BIF_PART_HEAD, BIF_PART_PROJECTOR, BIF_PART_JOINT, BIF_PARTS } bif_part;

/* For each part the prefix under which this folder holds it; NULL = the folder does not have the part. */
typedef struct {
    const char *prefix[BIF_PARTS];
    int projector_step; /* 0: linear_K. 2: the authors' mm_projector.(2(K-1)). 1: the authors' linear one, mm_projector.weight */
} bif_layout;

bif_layout bif_layout_find(const bif_safetensors *st);
/* How others write a LLaVA: as transformers 4.52 and newer have it in memory, and as its authors do. projector_depth 0: a linear one. */
bif_layout bif_layout_hf(void);
bif_layout bif_layout_native(int64_t projector_depth);
/* The part of a table name and what follows its prefix. */
bif_part bif_part_of(const char *table_name, const char **tail);
/* The file's name of a table row (malloc'ed), or NULL when the folder lacks the part. */
char *bif_layout_name(const bif_layout *layout, const char *table_name);
/* The tensor of the set (whose layout this is) that has this name, or the same one's name in another layout; NULL when there is none. Of a
 * projector only names of one family are the same: linear_K, or the authors' numbers. */
const bif_st_entry *bif_layout_same(const bif_layout *layout, const bif_safetensors *set, const char *name);
/* True when a tensor of the file lies under this part's prefix. */
bool bif_layout_holds(const bif_layout *layout, bif_part part, const char *file_name);
