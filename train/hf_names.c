#include "train/hf_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define END "\001" /* closes a list of prefixes; "" is itself a prefix */

static const struct {
    const char *table[3]; /* prefixes in the table */
    const char *file[8];  /* prefixes in files, the most telling first */
    const char *probe[2]; /* the tensors one of which proves a prefix */
} parts[BIF_PARTS] = {
    [BIF_PART_VISION] = {{"vision_tower.vision_model.", "vision_model.", END},
                         {"vision_tower.vision_model.",                    /* transformers 4 LLaVA; what we write */
                          "vision_tower.",                                 /* transformers 5 LLaVA */
                          "model.vision_tower.vision_model.",              /* transformers 4.52 in memory */
                          "model.vision_tower.vision_tower.vision_model.", /* LLaVA's authors */
                          "model.vision_tower.", "vision_model.",          /* CLIPModel, SiglipModel */
                          "",                                              /* CLIPVisionModel, SiglipVisionModel of transformers 5 */
                          END},
                         {"embeddings.patch_embedding.weight"}},
    [BIF_PART_TEXT] = {{"text_model.", END}, {"text_model.", "", END}, {"embeddings.token_embedding.weight"}},
    [BIF_PART_DECODER] = {{"language_model.model.", "model.", END},
                          {"language_model.model.", "model.language_model.", "model.", "", END},
                          {"embed_tokens.weight"}},
    [BIF_PART_HEAD] = {{"language_model.lm_head.", "lm_head.", END}, {"language_model.lm_head.", "lm_head.", END}, {"weight"}},
    [BIF_PART_PROJECTOR] = {{"multi_modal_projector.", END},
                            {"multi_modal_projector.", "model.multi_modal_projector.", END},
                            {"linear_1.weight"}},
    [BIF_PART_JOINT] = {{"", END}, {"", END}, {"visual_projection.weight", "logit_scale"}},
};

/* mm_projector.0.weight, or mm_projector.weight of a linear one. */
static const char *const native_projectors[] = {"model.mm_projector.", "mm_projector."};

static bool ends(const char *prefix)
{
    return strcmp(prefix, END) == 0;
}

static bool has(const bif_safetensors *st, const char *prefix, const char *tail)
{
    char *name = bif_format("%s%s", prefix, tail);
    const bool found = bif_safetensors_find(st, name) != NULL;
    free(name);
    return found;
}

bif_layout bif_layout_find(const bif_safetensors *st)
{
    bif_layout layout = {0};
    for (int p = 0; p < BIF_PARTS; p++) {
        for (int i = 0; layout.prefix[p] == NULL && !ends(parts[p].file[i]); i++) {
            if (has(st, parts[p].file[i], parts[p].probe[0]) || (parts[p].probe[1] != NULL && has(st, parts[p].file[i], parts[p].probe[1]))) {
                layout.prefix[p] = parts[p].file[i];
            }
        }
    }
    for (size_t i = 0; layout.prefix[BIF_PART_PROJECTOR] == NULL && i < 2; i++) {
        layout.projector_step = has(st, native_projectors[i], "0.weight") ? 2 : has(st, native_projectors[i], "weight") ? 1 : 0;
        layout.prefix[BIF_PART_PROJECTOR] = layout.projector_step > 0 ? native_projectors[i] : NULL;
    }
    return layout;
}

bif_layout bif_layout_hf(void)
{
    return (bif_layout){.prefix = {[BIF_PART_VISION] = "model.vision_tower.vision_model.", [BIF_PART_DECODER] = "model.language_model.",
                                   [BIF_PART_HEAD] = "lm_head.", [BIF_PART_PROJECTOR] = "model.multi_modal_projector."}};
}

bif_layout bif_layout_native(int64_t projector_depth)
{
    return (bif_layout){.prefix = {[BIF_PART_VISION] = "model.vision_tower.vision_tower.vision_model.", [BIF_PART_DECODER] = "model.",
                                   [BIF_PART_HEAD] = "lm_head.", [BIF_PART_PROJECTOR] = native_projectors[0]},
                        .projector_step = projector_depth == 0 ? 1 : 2};
}

bif_part bif_part_of(const char *table_name, const char **tail)
{
    for (int p = 0; p < BIF_PARTS; p++) {
        for (int i = 0; !ends(parts[p].table[i]); i++) {
            const size_t n = strlen(parts[p].table[i]);
            if (strncmp(table_name, parts[p].table[i], n) == 0) {
                *tail = table_name + n;
                return (bif_part)p;
            }
        }
    }
    bif_bug(__FILE__, __LINE__, "no part holds %s", table_name); /* the joint space takes what is left */
}

/* linear_K.weight -> 2(K-1).weight: every second member of the authors' Sequential is a GELU. A linear projector is no Sequential. */
static char *native_name(const bif_layout *layout, const char *tail)
{
    const char *prefix = layout->prefix[BIF_PART_PROJECTOR];
    int k = 0, used = 0;
    if (sscanf(tail, "linear_%d.%n", &k, &used) != 1 || used == 0) {
        return bif_format("%s%s", prefix, tail);
    }
    return layout->projector_step == 1 && k == 1 ? bif_format("%s%s", prefix, tail + used)
                                                 : bif_format("%s%d.%s", prefix, 2 * (k - 1), tail + used);
}

char *bif_layout_name(const bif_layout *layout, const char *table_name)
{
    const char *tail = NULL;
    const bif_part part = bif_part_of(table_name, &tail);
    const char *prefix = layout->prefix[part];
    if (prefix == NULL) {
        return NULL;
    }
    return part == BIF_PART_PROJECTOR && layout->projector_step > 0 ? native_name(layout, tail) : bif_format("%s%s", prefix, tail);
}

const bif_st_entry *bif_layout_same(const bif_layout *layout, const bif_safetensors *set, const char *name)
{
    const bif_st_entry *entry = bif_safetensors_find(set, name);
    for (int p = 0; p < BIF_PARTS; p++) {
        for (int i = 0; entry == NULL && layout->prefix[p] != NULL && !ends(parts[p].file[i]); i++) {
            const size_t n = strlen(parts[p].file[i]);
            if (strncmp(name, parts[p].file[i], n) == 0) {
                char *own = bif_format("%s%s", layout->prefix[p], name + n);
                entry = bif_safetensors_find(set, own);
                free(own);
            }
        }
    }
    return entry;
}

bool bif_layout_holds(const bif_layout *layout, bif_part part, const char *file_name)
{
    const char *prefix = layout->prefix[part];
    return prefix != NULL && strncmp(file_name, prefix, strlen(prefix)) == 0;
}
