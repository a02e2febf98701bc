#include "eval/score.h"

extern const bif_score_task bif_task_exact;

const bif_score_task *const bif_score_tasks[] = {
    &bif_task_exact,
    NULL,
};
