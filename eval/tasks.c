#include "eval/score.h"

extern const bif_score_task bif_task_easy_vqa;
extern const bif_score_task bif_task_exact, bif_task_korean, bif_task_vqav2, bif_task_okvqa, bif_task_textvqa, bif_task_vizwiz, bif_task_gqa;
extern const bif_score_task bif_task_pope, bif_task_mme, bif_task_scienceqa, bif_task_mmbench, bif_task_seed;
extern const bif_score_task bif_task_chartqa, bif_task_docvqa, bif_task_ocrbench, bif_task_refcoco, bif_task_caption, bif_task_chair;
extern const bif_score_task bif_task_llava_bench, bif_task_k_llava_w, bif_task_mm_vet;

const bif_score_task *const bif_score_tasks[] = {
    &bif_task_exact,   &bif_task_korean, &bif_task_vqav2,     &bif_task_okvqa,   &bif_task_textvqa, &bif_task_vizwiz,
    &bif_task_gqa,     &bif_task_pope,   &bif_task_mme,       &bif_task_scienceqa, &bif_task_mmbench, &bif_task_seed,
    &bif_task_chartqa, &bif_task_docvqa, &bif_task_ocrbench,  &bif_task_refcoco, &bif_task_caption, &bif_task_chair,
    &bif_task_llava_bench, &bif_task_k_llava_w, &bif_task_mm_vet, &bif_task_easy_vqa,
    NULL,
};
