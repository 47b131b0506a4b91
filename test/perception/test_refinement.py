# SPDX-License-Identifier: Apache-2.0
"""Bodies meet their keypoints by a rigid motion, or stay as they were."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from hmr_ros.body import load_body
from hmr_ros.body.coco import face_vertices, LIMBS
from hmr_ros.perception import refinement
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.person import Person, PersonKeypoints
from hmr_ros.perception.refinement import (
    errors_by_moves, fit_moves, Refiner, RefinementSettings, Sight)

BODY = load_body()
CAMERA = Camera(620.0, 600.0, 330.0, 235.0, 640, 480)
#: follows keypoints wherever they lead.
FREE = RefinementSettings(
    tolerance=10, doubt=np.inf, turn_trust=0, place_trust=0, depth_trust=0, steps=15)
seeds = st.integers(0, 2 ** 31)


def person_of(rotmats, betas, transl, box=None):
    """Return the Person of a body, and its COCO keypoints in pixels."""
    joints, _ = BODY.pose_joints(rotmats[None], betas[None])
    joints = (joints[0] + transl).astype(np.float32)
    face, _ = BODY.skin_few(face_vertices(BODY), rotmats[None], betas[None])
    pixels = CAMERA.project(np.concatenate([face[0] + transl, joints[LIMBS]]))
    if box is None:
        box = np.concatenate([pixels.min(axis=0) - 10, pixels.max(axis=0) + 10])
    pose = Rotation.from_matrix(rotmats).as_rotvec().astype(np.float32)
    return Person(
        'p1', 0.9, np.float32(box), np.zeros((2, 3), np.float32), pose[0], pose[1:], betas,
        np.float32(transl), joints, CAMERA.project_ahead(joints), np.ones(24, np.float32)), pixels


def seen_and_moved(seed, turn=0.3):
    """Return a person, and where the keypoints are of the same body turned and shifted."""
    rng = np.random.default_rng(seed)
    rotmats = Rotation.from_rotvec(rng.normal(0, 0.3, (24, 3))).as_matrix()
    rotmats[0] = rotmats[0] @ np.diag([1, -1, -1])
    betas = rng.normal(0, 1, 10).astype(np.float32)
    transl = rng.uniform((-0.5, -0.3, 3), (0.5, 0.3, 6))
    truth, pixels = person_of(rotmats.astype(np.float32), betas, transl)
    axis = rng.normal(size=3)
    rotmats[0] = Rotation.from_rotvec(turn * axis / np.linalg.norm(axis)).as_matrix() @ rotmats[0]
    shift = rng.normal(0, 0.1, 3) * (1, 1, 2)
    person, _ = person_of(rotmats.astype(np.float32), betas, transl + shift, truth.box)
    return person, truth, pixels


def keypoints_at(person, pixels, confidence=0.8):
    return PersonKeypoints(
        person.track_id, 0.9, person.box, np.float32(pixels),
        np.broadcast_to(np.float32(confidence), 17).copy())


def sight_of(seed, count=3):
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 0.4, (count, 17, 3))
    pivots = rng.uniform((-1, -1, 3), (1, 1, 8), (count, 3))
    placed = offsets + pivots[:, None]
    rays = placed[..., :2] / placed[..., 2:] + rng.normal(0, 0.02, (count, 17, 2))
    return Sight(offsets, pivots, rays, rng.uniform(0, 1, (count, 17)), 1.7 / pivots[:, 2],
                 rng.uniform(0.2, 5, count), rng.uniform(0, 0.05, count))


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_keypoints_of_the_body_itself_bring_it_to_where_it_is(seed):
    person, truth, pixels = seen_and_moved(seed)
    found, = Refiner(BODY, FREE).refine([person], [keypoints_at(person, pixels)], CAMERA)
    np.testing.assert_allclose(found.joints3d, truth.joints3d, atol=2e-3)
    np.testing.assert_allclose(found.joints2d, truth.joints2d, atol=0.2)
    np.testing.assert_allclose(found.transl, truth.transl, atol=2e-3)


def test_the_live_settings_bring_bodies_nearer_that_are_only_misplaced():
    shares = []
    for seed in range(40):
        person, truth, pixels = seen_and_moved(seed)
        found, = Refiner(BODY).refine([person], [keypoints_at(person, pixels)], CAMERA)
        before, after = (np.linalg.norm(one.joints2d - truth.joints2d, axis=1).mean()
                         for one in (person, found))
        shares.append(after / before)
    assert max(shares) < 1 and np.median(shares) < 0.6


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_motion_is_rigid_and_about_the_pelvis(seed):
    """So errors after the best alignment, such as PA-MPJPE, cannot change."""
    person, _, pixels = seen_and_moved(seed)
    found, = Refiner(BODY).refine([person], [keypoints_at(person, pixels)], CAMERA)
    assert found is not person
    before, after = (one.joints3d[:, None] - one.joints3d for one in (person, found))
    np.testing.assert_allclose(
        np.linalg.norm(after, axis=2), np.linalg.norm(before, axis=2), atol=5e-6)
    rotation, _ = Rotation.align_vectors(after[0], before[0])
    assert np.linalg.det(rotation.as_matrix()) == pytest.approx(1)
    np.testing.assert_allclose(rotation.apply(before[0]), after[0], atol=5e-6)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_what_is_published_is_one_body(seed):
    """Pose, translation, joints and pixels of a refined person agree; the rest is untouched."""
    person, _, pixels = seen_and_moved(seed)
    found, = Refiner(BODY).refine([person], [keypoints_at(person, pixels)], CAMERA)
    rotmats = Rotation.from_rotvec(found.pose).as_matrix().astype(np.float32)
    joints, _ = BODY.pose_joints(rotmats[None], found.betas[None])
    np.testing.assert_allclose(found.joints3d, joints[0] + found.transl, atol=1e-5)
    np.testing.assert_array_equal(found.joints2d, CAMERA.project_ahead(found.joints3d))
    moved = {'global_orient', 'transl', 'joints3d', 'joints2d'}
    for field in fields(Person):
        value = getattr(found, field.name)
        if field.name in moved:
            assert value.dtype == np.float32
        else:
            assert value is getattr(person, field.name)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_derivatives_are_those_of_differences(seed):
    sight, step = sight_of(seed), 1e-6

    def errors(number, amount):
        turns, shift = np.eye(3), np.zeros(3)
        if number < 3:
            turns = Rotation.from_rotvec(amount * np.eye(3)[number]).as_matrix()
        else:
            shift[number - 3] = amount
        placed = sight.offsets @ turns.T + (
            sight.pivots + shift * sight.pivots[:, 2:])[:, None]
        return (placed[..., :2] / placed[..., 2:] - sight.rays) / sight.sizes[:, None, None]
    placed = sight.offsets + sight.pivots[:, None]
    found = errors_by_moves(
        sight, sight.offsets, placed[..., 2:], placed[..., :2] / placed[..., 2:])
    for number in range(6):
        expected = (errors(number, step) - errors(number, -step)) / (2 * step)
        np.testing.assert_allclose(found[..., number], expected, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_it_ends_where_a_general_solver_does(seed):
    sight = sight_of(seed, count=1)
    chosen = RefinementSettings(
        tolerance=0.3, doubt=np.inf, turn_trust=0.3, place_trust=2.0, depth_trust=0.7, steps=25)
    extent = 17 * (sight.sizes[0] * sight.pivots[0, 2]) ** 2
    trust = np.sqrt(sight.trusts[0])

    def residuals(numbers):
        turned = Rotation.from_rotvec(numbers[:3]).apply(sight.offsets[0])
        placed = turned + sight.pivots[0] + numbers[3:] * sight.pivots[0, 2]
        errors = (placed[:, :2] / placed[:, 2:] - sight.rays[0]) / sight.sizes[0]
        squares = np.sum(errors ** 2, axis=1)
        robust = np.sqrt(sight.weights[0] * squares / (1 + squares / chosen.tolerance ** 2))
        return np.concatenate([
            robust,
            trust * np.sqrt(chosen.turn_trust / extent) * (turned - sight.offsets[0]).ravel(),
            trust * np.sqrt(chosen.place_trust) * numbers[3:5] / sight.sizes[0],
            [trust * np.sqrt(chosen.depth_trust) * numbers[5]]])
    expected = least_squares(residuals, np.full(6, 1e-6), xtol=1e-12, ftol=1e-12, gtol=1e-12)
    found = fit_moves(sight, chosen)
    numbers = np.concatenate([
        Rotation.from_matrix(found.turns[0]).as_rotvec(),
        found.shifts[0] / sight.pivots[0, 2]])
    assert np.sum(residuals(numbers) ** 2) <= np.sum(expected.fun ** 2) * (1 + 1e-4)


def test_everybody_is_refined_as_if_alone():
    trios = [seen_and_moved(seed) for seed in range(5)]
    people = [replace(person, box=person.box + np.float32(i))
              for i, (person, _, _) in enumerate(trios)]
    keypoints = [keypoints_at(person, pixels)
                 for person, (_, _, pixels) in zip(people, trios)]
    together = Refiner(BODY).refine(people, keypoints[::-1], CAMERA)
    for person, seen, found in zip(people, keypoints, together):
        alone, = Refiner(BODY).refine([person], [seen], CAMERA)
        np.testing.assert_allclose(found.joints3d, alone.joints3d, atol=1e-5)


def test_who_is_where_the_keypoints_are_stays():
    _, truth, pixels = seen_and_moved(4)
    refiner = Refiner(BODY)
    # What float32 leaves, no step may chase.
    found, = refiner.refine([truth], [keypoints_at(truth, pixels)], CAMERA)
    np.testing.assert_allclose(found.joints3d, truth.joints3d, atol=1e-4)


def test_no_step_raises_the_cost(monkeypatch):
    """Steps that are drawn instead of solved are taken only where they help."""
    sight, rng, costs = sight_of(5, count=40), np.random.default_rng(0), []
    posed = refinement._posed

    def noted(*arguments):
        costs.append(posed(*arguments).costs)
        return posed(*arguments)
    monkeypatch.setattr(refinement, '_posed', noted)
    monkeypatch.setattr(np.linalg, 'solve', lambda _, right: rng.normal(0, 0.01, right.shape))
    moves = fit_moves(sight)
    doubted = refinement._doubted(sight, posed(
        sight, refinement._Holds.of(sight, RefinementSettings()), np.tile(np.eye(3), (40, 1, 1)),
        np.zeros((40, 3))), RefinementSettings())
    costs = costs[1:]
    still = posed(doubted, refinement._Holds.of(sight, RefinementSettings()), moves.turns,
                  moves.shifts / sight.pivots[:, 2:])
    np.testing.assert_allclose(still.costs, np.min(costs, axis=0))
    np.testing.assert_array_equal(moves.better, still.costs < costs[0])
    assert 0 < moves.better.sum() < 40


@pytest.mark.parametrize('spoil', [
    lambda seen: replace(seen, confidence=np.where(np.arange(17) < 5, seen.confidence, 0)),
    lambda seen: replace(seen, keypoints=np.where(
        np.arange(17)[:, None] < 5, seen.keypoints, np.float32(np.nan))),
    lambda seen: replace(seen, box=seen.box + 1)])
def test_without_enough_keypoints_nothing_changes(spoil):
    person, _, pixels = seen_and_moved(6)
    refiner = Refiner(BODY)
    found, = refiner.refine([person], [spoil(keypoints_at(person, pixels))], CAMERA)
    assert found is person and (refiner.refined, refiner.unrefined) == (0, 1)
    refiner.refine([person], [keypoints_at(person, pixels)], CAMERA)
    assert (refiner.refined, refiner.unrefined) == (1, 1)


def test_nobody_is_nobody():
    assert Refiner(BODY).refine([], [], CAMERA) == []


def test_a_keypoint_that_is_not_found_says_nothing():
    person, _, pixels = seen_and_moved(7)
    one, doubted = np.arange(17) == 3, np.where(np.arange(17) == 3, 0, 0.8)
    results = [
        Refiner(BODY).refine([person], [keypoints_at(
            person, np.where(one[:, None], place, pixels), confidence)], CAMERA)[0].joints3d
        for place, confidence in ((np.nan, 0.8), (pixels, doubted), (1e4, doubted))]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_only_the_proportions_of_confidences_matter():
    person, _, pixels = seen_and_moved(7)
    confidence = np.random.default_rng(0).uniform(0.2, 1, 17)
    found = [Refiner(BODY).refine([person], [keypoints_at(person, pixels, share * confidence)],
                                  CAMERA)[0].joints3d for share in (1.0, 0.1)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_a_keypoint_counts_by_its_confidence():
    person, truth, pixels = seen_and_moved(7)
    aside = pixels.copy()
    aside[5] += 12
    errors = []
    for confidence in (0.9, 0.5, 0.1):
        seen = keypoints_at(person, aside, np.where(np.arange(17) == 5, confidence, 0.9))
        found, = Refiner(BODY, FREE).refine([person], [seen], CAMERA)
        errors.append(np.linalg.norm(found.joints2d - truth.joints2d, axis=1).mean())
    assert errors[0] > 1.2 * errors[1] > 1.2 ** 2 * errors[2]


def test_keypoints_that_are_far_from_a_sure_body_are_doubted():
    person, _, pixels = seen_and_moved(7, turn=0.0)
    size = np.ptp(person.box.reshape(2, 2), axis=0).max()

    def share(off, chance, doubt):
        sure = replace(person, joint_confidence=np.full(24, chance, np.float32))
        _, shown = person_of(
            Rotation.from_rotvec(person.pose).as_matrix().astype(np.float32), person.betas,
            person.transl)
        seen = keypoints_at(person, shown + [off * size, 0])
        found, = Refiner(BODY, RefinementSettings(doubt=doubt)).refine([sure], [seen], CAMERA)
        return np.mean(found.joints2d - person.joints2d, axis=0)[0] / (off * size)
    # Nearer than what the network expects of itself nothing is doubted, farther the more.
    assert share(0.01, 0.9, 0.08) == pytest.approx(share(0.01, 0.9, np.inf), rel=1e-3)
    shares = [share(off, 0.9, 0.08) / share(off, 0.9, np.inf) for off in (0.02, 0.08, 0.16)]
    assert shares[0] > shares[1] > shares[2]
    assert share(0.08, 0.99, 0.08) < share(0.08, 0.6, 0.08)


def test_who_is_surer_of_a_body_holds_it_more():
    person, _, pixels = seen_and_moved(7)
    moved = []
    for chance in (0.5, 0.9, 0.99, 1.0):
        sure = replace(person, joint_confidence=np.full(24, chance, np.float32))
        found, = Refiner(BODY).refine([sure], [keypoints_at(person, pixels)], CAMERA)
        moved.append(np.linalg.norm(found.joints3d - person.joints3d, axis=1).mean())
    assert moved[0] > moved[1] > moved[2]
    # A network that says 1 of everybody says nothing.
    assert moved[3] == pytest.approx(moved[1], rel=0.01)


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(5, 16))
def test_one_keypoint_at_a_wrong_place_hardly_matters(seed, row):
    person, _, pixels = seen_and_moved(seed, turn=0.15)
    wild, without = pixels.copy(), pixels.copy()
    wild[row] += 1.5 * np.ptp(pixels)
    without[row] = np.nan
    found, expected = (Refiner(BODY).refine([person], [keypoints_at(person, seen)], CAMERA)[0]
                       for seen in (wild, without))
    size = np.ptp(person.box.reshape(2, 2), axis=0).max()
    assert np.linalg.norm(found.joints2d - expected.joints2d, axis=1).mean() < 0.02 * size


def test_a_body_in_or_behind_the_camera_is_left_there():
    person, _, pixels = seen_and_moved(8)
    for depth in (-3.0, 0.05):
        shift = np.float32([0, 0, depth - person.joints3d[0, 2]])
        near = replace(person, transl=person.transl + shift, joints3d=person.joints3d + shift)
        found, = Refiner(BODY).refine([near], [keypoints_at(person, pixels)], CAMERA)
        assert found is near


def test_keypoints_that_ask_for_half_the_depth_are_not_followed_that_far():
    _, truth, pixels = seen_and_moved(9)
    centre = pixels.mean(axis=0)
    large = keypoints_at(truth, centre + 3 * (pixels - centre))
    found, = Refiner(BODY, FREE).refine([truth], [large], CAMERA)
    assert found.joints3d[0, 2] >= 0.49 * truth.joints3d[0, 2]
