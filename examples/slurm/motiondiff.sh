#!/bin/bash
# motiondiff on a SLURM cluster: training by several processes, then generation in shards, then the store of all.
#
#   STORE=/shared/store OUT=/shared/run sbatch --nodes 2 --ntasks-per-node 1 examples/slurm/motiondiff.sh train
#   STORE=/shared/store OUT=/shared/run sbatch --array 0-7 examples/slurm/motiondiff.sh augment
#   STORE=/shared/store OUT=/shared/run sbatch examples/slurm/motiondiff.sh join
#
# Chain them with `--dependency afterok:JOB`. STORE and OUT are on a disk that all nodes read under the same path.
#SBATCH --job-name motiondiff
#SBATCH --cpus-per-task 4
#SBATCH --mem 16G
#SBATCH --time 12:00:00
set -euo pipefail
: "${STORE:?a prepared store}" "${OUT:?the run folder}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"
case "${1:?train, augment or join}" in
train)
    # a restarted job resumes from the newest checkpoint
    resume=(); [ -f "$OUT/environment.json" ] && resume=(--resume)
    srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "${PROCESSES:-1}" --rdzv_backend c10d \
        --rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500" \
        -m motiondiff train --data "$STORE" --out "$OUT" "${resume[@]}"
    ;;
augment)
    motiondiff augment "$OUT" --data "$STORE" --out "$OUT-generated" \
        --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    ;;
join)
    motiondiff augment "$OUT" --data "$STORE" --out "$OUT-generated"
    ;;
esac
