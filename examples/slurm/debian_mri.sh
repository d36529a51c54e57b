#!/bin/bash
# debian-mri on a SLURM cluster: conversion and regional volumes in shards, then training.
#
#   DICOM=/shared/dicom NIFTI=/shared/nifti sbatch --array 0-7 examples/slurm/debian_mri.sh convert
#   DICOM=/shared/dicom NIFTI=/shared/nifti sbatch examples/slurm/debian_mri.sh convert
#   DATA=/shared/data ATLAS=neuromorphometrics sbatch --array 0-7 examples/slurm/debian_mri.sh volumes
#   DATA=/shared/data ATLAS=neuromorphometrics sbatch examples/slurm/debian_mri.sh volumes
#   DATA=/shared/data OUT=/shared/run sbatch --nodes 2 --ntasks-per-node 1 examples/slurm/debian_mri.sh train
#
# With --array a job is one shard; the same step without --array joins them. Chain them with `--dependency afterok:JOB`.
# All folders are on a disk that all nodes read under the same path.
#SBATCH --job-name debian-mri
#SBATCH --cpus-per-task 4
#SBATCH --mem 16G
#SBATCH --time 12:00:00
set -euo pipefail
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
part=(); [ -n "${SLURM_ARRAY_TASK_ID:-}" ] && part=(--shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT")
case "${1:?convert, volumes or train}" in
convert)
    debian-mri convert "${DICOM:?folder of DICOM files}" --out "${NIFTI:?folder to make}" \
        --workers "$SLURM_CPUS_PER_TASK" "${part[@]}"
    ;;
volumes)
    debian-mri volumes "${DATA:?a prepared folder}" --out "$DATA/regions.csv" --atlas "${ATLAS:?an atlas}" \
        --workers "$SLURM_CPUS_PER_TASK" "${part[@]}"
    ;;
train)
    resume=(); [ -f "${OUT:?the run folder}/environment.json" ] && resume=(--resume)
    srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "${PROCESSES:-1}" --rdzv_backend c10d \
        --rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500" \
        -m debian_mri train --data "${DATA:?a prepared folder}" --out "$OUT" "${resume[@]}"
    ;;
esac
