"""The distribution of examples to jobs."""

import numpy as np
import pytest

from nengonet.run.runner import _parts


@pytest.mark.parametrize("is_single", [False, True])
@pytest.mark.parametrize("n_images", [1, 2, 5, 40, 41, 100, 333])
@pytest.mark.parametrize("n_jobs", [1, 2, 3, 8])
@pytest.mark.parametrize("most", [1, 7, 37, 250])
def test_every_image_is_in_one_part_and_jobs_have_the_same_work(n_images, n_jobs, most, is_single):
    n_jobs = min(n_jobs, n_images)
    parts = _parts(n_images, n_jobs, most, is_single)
    everything = np.arange(n_images)
    np.testing.assert_array_equal(np.concatenate([everything[part] for part in parts]), everything)
    sizes = np.array([len(everything[part]) for part in parts])
    assert 1 <= sizes.min() <= sizes.max() == sizes[0] <= most
    if n_jobs > 1:
        assert sizes.max() - sizes.min() <= 1
        # As many parts for each, but where there are not as many images.
        assert len(parts) % n_jobs == 0 or len(parts) == n_images
        work = [sizes[job::n_jobs].sum() for job in range(n_jobs)]
        assert max(work) - min(work) <= max(1, len(parts) // n_jobs)


def test_one_job_runs_as_many_at_once_as_it_may():
    assert _parts(40, 1, 37, False) == [slice(0, 37), slice(37, 74)]
    assert len(_parts(40, 1, 37, True)) == 40


def test_parts_on_the_reference_are_small_enough_to_show_progress():
    assert len(_parts(1000, 2, 250, True)) == 16
