#!/bin/bash
# actprompt on a SLURM cluster: poses and features in shards, then training.
#
#   DATA=/shared/data OUT=/shared/run sbatch --array 0-7 examples/slurm/actprompt.sh shard
#   DATA=/shared/data OUT=/shared/run sbatch examples/slurm/actprompt.sh join
#   DATA=/shared/data OUT=/shared/run sbatch --nodes 2 --ntasks-per-node 1 examples/slurm/actprompt.sh train
#
# Chain them with `--dependency afterok:JOB`. DATA and OUT are on a disk that all nodes read under the same path.
#SBATCH --job-name actprompt
#SBATCH --cpus-per-task 4
#SBATCH --mem 16G
#SBATCH --time 12:00:00
set -euo pipefail
: "${DATA:?a prepared folder}" "${OUT:?the run folder}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"
case "${1:?shard, join or train}" in
shard)
    part="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    # leave this line out for a set that has skeletons, or needs none
    actprompt pose --data "$DATA" --workers "$SLURM_CPUS_PER_TASK" --shard "$part"
    actprompt extract --data "$DATA" --out "$OUT-features" --shard "$part"
    ;;
join)
    actprompt pose --data "$DATA" --workers "$SLURM_CPUS_PER_TASK"
    actprompt extract --data "$DATA" --out "$OUT-features"
    ;;
train)
    resume=(); [ -f "$OUT/environment.json" ] && resume=(--resume)
    srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "${PROCESSES:-1}" --rdzv_backend c10d \
        --rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500" \
        -m actprompt train --data "$DATA" --features "$OUT-features" --out "$OUT" "${resume[@]}"
    ;;
esac
