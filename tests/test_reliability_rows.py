"""Which test holds which row of the fault list that the service was built against.

The list is `notes/reliability.md` section 3, rows 1 to 48, with the exceptions of the design: the
states and codes of its section 6, three attempts, speech from 0.2 s, 400 for what is not finished,
90 % of a video, ids of uuid4. A row says here in a line what it demands; its tests say the rest.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
Row = tuple[str, tuple[str, ...]]

ROWS: dict[int, Row] = {
    1: (
        "Loopback, the unspecified address and localhost are refused at submit: 422, no packet.",
        (
            "tests/serving/test_url_guard.py::test_a_url_that_may_not_be_opened_is_a_422_at_submit",
            "tests/serving/test_url_guard.py::test_no_address_of_a_special_network_is_dialled_however_it_is_written",
            "tests/serving/test_gate.py::test_the_system_knows_every_spelling_of_loopback_and_so_does_the_gate",
        ),
    ),
    2: (
        "So are private, shared, multicast and reserved networks and every cloud's metadata.",
        (
            "tests/serving/test_addresses.py::test_every_special_network_is_refused_to_its_last_address_and_no_further",
            "tests/serving/test_addresses.py::test_no_cloud_gives_its_credentials_away",
            "tests/serving/test_fetch_guard.py::test_no_spelling_of_a_special_address_is_ever_dialled",
            "tests/serving/test_url_guard.py::test_a_url_that_may_not_be_opened_is_a_422_at_submit",
            "tests/serving/test_url_guard.py::test_no_address_of_a_special_network_is_dialled_however_it_is_written",
            "tests/serving/test_url_guard.py::test_their_public_neighbours_are_dialled",
        ),
    ),
    3: (
        "Decimal, octal, hexadecimal and short numbers are judged by what they resolve to.",
        (
            "tests/serving/test_gate.py::test_the_system_knows_every_spelling_of_loopback_and_so_does_the_gate",
            "tests/serving/test_url_guard.py::test_a_url_that_may_not_be_opened_is_a_422_at_submit",
            "tests/serving/test_url_guard.py::test_no_address_of_a_special_network_is_dialled_however_it_is_written",
        ),
    ),
    4: (
        "Digits of other scripts are numbers; names in other scripts and final dots are normal.",
        (
            "tests/serving/test_url.py::test_a_url_is_taken_apart",
            "tests/serving/test_url_guard.py::test_a_url_that_may_not_be_opened_is_a_422_at_submit",
        ),
    ),
    5: (
        "IPv6 that carries IPv4 is as public as what it carries.",
        (
            "tests/serving/test_addresses.py::test_ipv6_that_carries_ipv4_is_as_public_as_what_it_carries",
            "tests/serving/test_addresses.py::test_ipv6_that_carries_two_ipv4_addresses_needs_both_to_be_public",
            "tests/serving/test_addresses.py::test_forms_of_ipv4_in_ipv6_that_nothing_public_uses_are_refused",
            "tests/serving/test_url_guard.py::test_a_url_that_may_not_be_opened_is_a_422_at_submit",
        ),
    ),
    6: (
        "All answers of a resolver must be public, and a checked address is the one dialled.",
        (
            "tests/serving/test_gate.py::test_one_address_that_is_not_public_is_enough_to_refuse",
            "tests/serving/test_fetch_guard.py::test_a_name_that_changes_its_address_is_dialled_where_it_was_checked",
            "tests/serving/test_fetch_guard.py::test_a_name_that_turns_private_between_retries_is_refused",
            "tests/serving/test_wire.py::test_the_checked_address_is_dialled_and_the_host_header_keeps_the_name",
        ),
    ),
    7: (
        "At most three redirects, each checked anew, and nothing secret goes along.",
        (
            "tests/serving/test_fetch_guard.py::test_a_redirect_is_held_to_the_same_rules",
            "tests/serving/test_url.py::test_a_redirect_to_no_url_of_ours_is_refused",
            "tests/serving/test_fetch.py::test_three_redirects_are_followed",
            "tests/serving/test_fetch.py::test_the_fourth_redirect_is_not_followed",
            "tests/serving/test_fetch.py::test_a_chain_of_eleven_redirects_ends_at_the_fourth",
            "tests/serving/test_fetch.py::test_redirects_are_followed_without_cookies_and_with_the_new_host",
        ),
    ),
    8: (
        "Other schemes, paths, user names, ports, line ends and endless URLs are `url_invalid`.",
        (
            "tests/serving/test_url_guard.py::test_a_url_that_may_not_be_opened_is_a_422_at_submit",
            "tests/serving/test_url.py::test_what_is_no_url_of_ours_is_refused_with_the_reason",
            "tests/serving/test_url.py::test_any_text_is_a_url_or_refused",
            "tests/serving/test_gate.py::test_a_port_that_is_not_open_is_refused_before_its_name_is_looked_up",
        ),
    ),
    9: (
        "Proxies in the environment are not used.",
        ("tests/serving/test_fetch_guard.py::test_a_proxy_in_the_environment_is_not_used",),
    ),
    10: (
        "A body ends at its cap whatever length it declares, and leaves no file; 413 for uploads.",
        (
            "tests/serving/test_transfer.py::test_each_wrong_body_has_its_error_and_leaves_no_file",
            "tests/serving/test_transfer.py::test_a_length_over_the_cap_is_believed_before_a_byte_is_read",
            "tests/serving/test_transfer.py::test_an_endless_body_is_left_soon_after_the_cap",
            "tests/serving/test_body.py::test_a_declared_length_above_the_limit_is_refused_before_the_body_is_read",
            "tests/serving/test_body.py::test_a_declared_length_is_no_way_around_the_count",
            "tests/serving/test_body.py::test_an_endless_body_is_left_at_its_limit",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
            "tests/serving/test_intake.py::test_what_a_url_gives_is_checked_like_a_file",
        ),
    ),
    11: (
        "Drips, stalls and half-closed connections are `source_timeout`: minimum rate, deadline.",
        (
            "tests/serving/test_transfer.py::test_each_wrong_body_has_its_error_and_leaves_no_file",
            "tests/serving/test_transfer.py::test_a_steady_transfer_may_take_longer_than_the_grace",
            "tests/serving/test_wire.py::test_each_way_not_to_answer_has_its_error",
            "tests/serving/test_fetch.py::test_a_server_that_stalls_is_tried_three_times",
            "tests/serving/test_fetch.py::test_the_deadline_holds_for_retries_and_redirects_together",
        ),
    ),
    12: (
        "Nothing compressed is asked for, and nothing compressed is taken.",
        (
            "tests/serving/test_fetch.py::test_a_server_is_told_no_more_than_it_needs",
            "tests/serving/test_transfer.py::test_each_wrong_body_has_its_error_and_leaves_no_file",
        ),
    ),
    13: (
        "A refusing source tells its class of status only; what may pass is tried twice again.",
        (
            "tests/serving/test_fetch.py::test_a_refusal_tells_its_class_only_and_500_and_above_is_tried_again",
            "tests/serving/test_fetch.py::test_retries_of_many_callers_are_spread",
            "tests/serving/test_fetch.py::test_a_server_that_stalls_is_tried_three_times",
            "tests/serving/test_wire.py::test_a_certificate_that_is_not_valid_is_named",
            "tests/serving/test_transfer.py::test_each_wrong_body_has_its_error_and_leaves_no_file",
        ),
    ),
    14: (
        "Bytes that decode decide what a file is; its name and declared type do not.",
        (
            "tests/serving/test_intake.py::test_bytes_decide_and_not_what_a_file_is_called",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
            "tests/serving/test_transfer.py::test_a_body_is_kept_as_it_came",
            "tests/media/test_probe.py::test_other_bytes_are_unsupported_under_any_name",
            "tests/media/test_probe.py::test_a_video_is_known_by_its_bytes",
        ),
    ),
    15: (
        "What a URL hides in its query is neither logged, echoed nor stored.",
        (
            "tests/serving/test_app.py::test_what_the_url_of_a_file_hides_is_kept_nowhere",
            "tests/serving/test_fetch.py::test_what_a_url_hides_is_not_logged",
            "tests/serving/test_fetch.py::test_what_a_url_hides_is_in_no_error",
            "tests/serving/test_request.py::test_a_refusal_repeats_neither_prompts_nor_urls",
            "tests/jobs/contract_board.py::OutboxContract::test_a_url_is_dropped_as_soon_as_it_is_not_needed",
        ),
    ),
    16: (
        "A picture whose header names too many pixels is refused before it is decoded.",
        (
            "tests/media/test_image.py::test_too_many_pixels_are_refused_before_decoding",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    17: (
        "Animations and many pages are no pictures; a photo with a second picture is one.",
        (
            "tests/media/test_image.py::test_an_animation_is_refused",
            "tests/media/test_image.py::test_a_photo_with_a_second_picture_is_no_animation",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    18: (
        "Formats other than JPEG, PNG and WebP never reach their readers.",
        (
            "tests/media/test_image.py::test_other_formats_are_refused_under_any_name",
            "tests/media/test_image.py::test_bytes_of_other_readers_never_reach_them",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    19: (
        "Odd pictures decode upright, or are `image_invalid`; what they tell besides is dropped.",
        (
            "tests/media/test_image.py::test_a_truncated_picture_is_refused",
            "tests/media/test_image.py::test_every_kind_of_pixel_becomes_rgb",
            "tests/media/test_image.py::test_a_transparent_palette_colour_becomes_white",
            "tests/media/test_image.py::test_the_exif_orientation_is_applied",
            "tests/media/test_image.py::test_a_shape_that_suits_no_portrait_is_refused",
            "tests/media/test_image.py::test_the_smallest_shapes_are_taken",
            "tests/media/test_image.py::test_a_bomb_of_text_is_refused",
            "tests/media/test_image.py::test_endless_words_about_a_picture_are_bounded",
            "tests/serving/test_intake.py::test_what_a_picture_tells_beside_itself_is_dropped",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    20: (
        "Empty sound, a header alone and less than 0.2 s are `audio_too_short`.",
        (
            "tests/media/test_audio.py::test_the_shortest_speech",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    21: (
        "Silent, constant and clipped sound is taken and never becomes NaN.",
        (
            "tests/media/test_audio.py::test_strange_but_finite_sound_is_taken_and_stays_finite",
            "tests/media/test_loudness.py::test_silence_and_a_constant_stay_finite",
            "tests/media/test_loudness.py::test_a_voice_that_is_clipped_all_the_time_stays_finite",
            "tests/test_speech.py::test_silence_has_finite_rows",
            "tests/serving/test_intake.py::test_good_media_become_a_job_and_nothing_else_is_kept",
        ),
    ),
    22: (
        "Samples that are no finite numbers are `audio_invalid`.",
        (
            "tests/media/test_audio.py::test_samples_that_are_no_numbers_are_refused",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    23: (
        "Length is counted in decoded samples and stops at the limit; any coding is taken.",
        (
            "tests/media/test_audio.py::test_the_longest_speech",
            "tests/media/test_audio.py::test_an_endless_recording_is_not_decoded_to_its_end",
            "tests/media/test_audio.py::test_a_length_in_the_header_is_not_believed",
            "tests/media/test_audio.py::test_every_codec_is_taken_without_a_delay",
            "tests/media/test_audio.py::test_channels_are_averaged",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    24: (
        "Huge covers, joined recordings and videos give their sound, or have none.",
        (
            "tests/media/test_audio.py::test_a_cover_of_200_megabytes_is_no_obstacle",
            "tests/media/test_audio.py::test_recordings_put_one_behind_the_other_are_one",
            "tests/media/test_audio.py::test_every_codec_is_taken_without_a_delay",
            "tests/media/test_audio.py::test_a_video_without_sound_has_none",
            "tests/media/test_probe.py::test_cover_art_is_no_video",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    25: (
        "A video is good when its frames decode, not when it opens.",
        (
            "tests/media/test_video.py::test_a_video_of_no_frames_is_refused",
            "tests/media/test_video.py::test_a_file_without_pictures_is_no_video",
            "tests/media/test_video.py::test_a_truncated_mp4_is_refused",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    26: (
        "Frames are shown by their time stamps, and in step with their sound.",
        (
            "tests/media/test_video.py::test_frames_are_mapped_by_time",
            "tests/media/test_video.py::test_a_frame_rate_that_the_header_makes_up_is_not_believed",
            "tests/media/test_video.py::test_what_lies_before_time_zero_is_not_shown",
            "tests/media/test_video.py::test_a_picture_that_starts_late_is_shown_from_the_beginning",
            "tests/media/test_video.py::test_a_flash_and_its_beep_stay_together",
            "tests/media/test_writer.py::test_the_sound_is_in_time_and_as_long_as_the_picture",
        ),
    ),
    27: (
        "AV1, HEVC, 10 bits, HDR, 4:4:4 and interlaced pictures decode.",
        ("tests/media/test_video.py::test_codecs_and_pixel_formats_are_decoded",),
    ),
    28: (
        "Rotation and pixel shape are applied; pixels of a frame and of all frames are bounded.",
        (
            "tests/media/test_video.py::test_the_rotation_flag_is_applied",
            "tests/media/test_video.py::test_pixels_become_square",
            "tests/media/test_video.py::test_too_many_pixels_are_refused_before_decoding",
            "tests/media/test_video.py::test_too_many_pixels_in_all_are_refused_by_the_header",
            "tests/media/test_video.py::test_a_header_without_a_length_does_not_hide_too_many_pixels",
            "tests/media/test_video.py::test_four_hours_are_too_many_and_8k_is_too_large",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    29: (
        "A file that names other files or addresses opens none of them.",
        (
            "tests/media/test_ffmpeg.py::test_files_that_name_other_files_are_never_opened",
            "tests/media/test_ffmpeg.py::test_a_film_that_says_where_it_goes_on_is_not_followed",
            "tests/media/test_video.py::test_a_list_of_other_files_is_refused",
            "tests/serving/test_intake.py::test_bad_media_are_refused_by_field_and_leave_nothing",
        ),
    ),
    30: (
        "Media that crash, hang or bloat their reader are `media_unreadable`; the service lives.",
        (
            "tests/serving/test_sandbox.py::test_a_worker_that_fails_costs_its_own_request_only",
            "tests/serving/test_sandbox.py::test_a_worker_that_hangs_is_ended_with_its_children",
            "tests/serving/test_sandbox.py::test_a_worker_is_limited",
            "tests/serving/test_intake.py::test_media_that_crash_their_reader_are_refused",
        ),
    ),
    31: (
        "Bodies are capped before they are parsed; what is no JSON is 400, a wrong field 422.",
        (
            "tests/serving/test_body.py::test_an_endless_body_is_left_at_its_limit",
            "tests/serving/test_body.py::test_a_declared_length_above_the_limit_is_refused_before_the_body_is_read",
            "tests/serving/test_body.py::test_the_default_limit_of_text_is_a_megabyte",
            "tests/serving/test_body.py::test_what_is_not_what_it_says_is_malformed",
            "tests/serving/test_intake.py::test_bodies_that_cannot_be_read_have_their_codes",
            "tests/serving/test_request.py::test_a_value_that_cannot_be_meant_is_refused_by_its_name",
            "tests/serving/test_request.py::test_an_unknown_field_is_named_in_plain_short_text",
        ),
    ),
    32: (
        "Any text is a prompt in NFC or a refusal, and breaks neither store nor log.",
        (
            "tests/serving/test_desk.py::test_no_text_breaks_a_submit_or_the_log",
            "tests/serving/test_request.py::test_any_text_is_a_prompt_in_nfc_or_a_refusal",
            "tests/serving/test_request.py::test_endless_accents_on_one_letter_cost_no_time",
            "tests/serving/test_body.py::test_any_prompt_arrives_as_it_was_written",
            "tests/jobs/test_model.py::test_any_text_survives_as_ascii",
            "tests/jobs/contract.py::JobStoreContract::test_no_text_breaks_the_store",
        ),
    ),
    33: (
        "Names of clients never name files, and no id is a path.",
        (
            "tests/serving/test_body.py::test_the_clients_file_names_are_never_used",
            "tests/serving/test_intake.py::test_good_media_become_a_job_and_nothing_else_is_kept",
            "tests/serving/test_protocol.py::test_what_is_no_id_of_ours_is_no_job_and_no_path",
            "tests/serving/test_app.py::test_an_id_is_a_name_and_never_a_path",
            "tests/jobs/test_model.py::test_ids_are_32_hex_digits_and_never_the_same",
        ),
    ),
    34: (
        "One key makes one job, however many ask at once; with another request it is refused.",
        (
            "tests/serving/test_desk.py::test_fifty_submits_at_once_with_one_key_make_one_job",
            "tests/serving/test_desk.py::test_a_key_used_for_another_request_is_refused",
            "tests/jobs/contract.py::JobStoreContract::test_fifty_callers_at_once_with_one_key_make_one_job",
        ),
    ),
    35: (
        "A key may be used anew once its job is gone.",
        (
            "tests/serving/test_desk.py::test_a_key_is_free_again_after_the_retention_time",
            "tests/serving/test_desk.py::test_a_key_is_free_again_when_its_job_is_gone",
            "tests/jobs/contract.py::JobStoreContract::test_a_key_is_free_again_once_its_job_is_erased",
        ),
    ),
    36: (
        "Jobs of others do not exist, and without a valid key there is nothing at all.",
        (
            "tests/serving/test_access.py::test_without_a_valid_key_nothing_is_told",
            "tests/serving/test_access.py::test_each_key_sees_its_own_jobs_only",
            "tests/serving/test_access.py::test_an_idempotency_key_is_its_owners",
        ),
    ),
    37: (
        "A full queue answers 429 with a measured Retry-After and keeps nothing.",
        (
            "tests/serving/test_desk.py::test_a_full_queue_says_when_to_come_back_and_keeps_nothing",
            "tests/jobs/contract.py::JobStoreContract::test_a_full_queue_refuses_and_keeps_nothing",
        ),
    ),
    38: (
        "A result is the same to all its readers, in parts too, and no file stays open.",
        (
            "tests/serving/test_results.py::test_a_part_can_be_had",
            "tests/serving/test_results.py::test_the_etag_is_the_hash_of_the_video",
            "tests/serving/test_results.py::test_head_says_all_but_the_bytes",
            "tests/serving/test_results.py::test_many_readers_get_the_same_and_leave_no_file_open",
            "tests/serving/test_results.py::test_a_reader_that_goes_away_halfway_leaves_no_file_open",
        ),
    ),
    39: (
        "Every state answers every call as the design's table says, with its code.",
        (
            "tests/serving/test_protocol.py::test_every_state_answers_every_call_as_promised",
            "tests/serving/test_protocol.py::test_why_there_is_no_video_is_said_in_the_one_shape_of_errors",
        ),
    ),
    40: (
        "A cancel holds wherever it meets a job, and a job has one end.",
        (
            "tests/serving/test_protocol.py::test_cancel_by_put_and_by_post_are_final",
            "tests/serving/test_protocol.py::test_cancel_of_a_finished_job_changes_nothing",
            "tests/serving/test_protocol.py::test_every_state_answers_every_call_as_promised",
            "tests/serving/test_protocol.py::test_a_job_that_ends_while_it_is_canceled_has_one_end",
            "tests/serving/test_protocol.py::test_a_job_that_starts_while_it_is_canceled_is_canceled",
            "tests/jobs/test_rows.py::test_a_cancel_at_any_stage_ends_the_attempt_there_without_a_video",
            "tests/jobs/test_rows.py::test_a_cancel_as_the_video_is_ready_wins_over_it",
            "tests/jobs/test_worker.py::test_cancel_while_running_ends_within_the_step_and_stays",
            "tests/jobs/test_worker.py::test_cancel_while_waiting_never_reaches_the_engine",
            "tests/jobs/contract.py::JobStoreContract::test_of_fifty_who_change_a_job_at_once_one_succeeds",
            "tests/jobs/test_queue_machine.py::JobsOfOneHost::cancel",
        ),
    ),
    41: (
        "Who goes away after a submit has a job; who goes away in it leaves nothing.",
        (
            "tests/serving/test_protocol.py::test_a_client_that_goes_away_after_its_request_has_its_job",
            "tests/serving/test_protocol.py::test_a_client_that_goes_away_in_its_request_leaves_nothing",
            "tests/serving/test_intake.py::test_a_client_that_goes_away_leaves_nothing",
            "tests/serving/test_body.py::test_a_client_that_goes_away_leaves_no_open_file",
        ),
    ),
    42: (
        "A store that stays locked is 503 `store_busy`, and no job is lost.",
        (
            "tests/serving/test_desk.py::test_a_locked_store_answers_503_and_loses_no_job",
            "tests/serving/test_backend.py::test_a_busy_store_at_the_start_is_opened_later",
            "tests/jobs/test_database.py::test_a_writer_that_takes_too_long_is_store_busy",
            "tests/jobs/test_execute.py::test_what_was_rendered_waits_for_a_busy_store",
        ),
    ),
    43: (
        "A damaged store goes aside under its time, loudly, and is never made anew by itself.",
        (
            "tests/jobs/test_database.py::test_a_damaged_file_is_moved_aside_and_never_replaced",
            "tests/jobs/test_database.py::test_a_backup_put_in_its_place_works",
            "tests/jobs/test_rows.py::test_a_first_page_with_turned_bits_is_moved_aside_by_its_time_and_told_loudly",
            "tests/serving/test_backend.py::test_a_damaged_store_makes_it_unready_until_it_is_restored",
        ),
    ),
    44: (
        "Clocks may jump: leases do not care, retention bears it, and what is told is UTC.",
        (
            "tests/jobs/test_queue_machine.py::JobsOfOneHost::clock_jumps",
            "tests/jobs/test_retention.py::test_a_job_from_the_future_is_kept_for_its_time_and_no_longer",
            "tests/jobs/test_retention.py::test_a_clock_turned_back_deletes_nothing_early",
            "tests/jobs/contract_board.py::OutboxContract::test_a_clock_that_is_turned_back_delays_nothing",
            "tests/jobs/test_journal.py::test_a_clock_that_was_turned_back_makes_no_negative_times",
            "tests/jobs/test_supervisor.py::test_an_engine_that_hangs_in_a_job_is_killed_and_the_job_goes_on",
            "tests/serving/test_status.py::test_times_are_utc",
            "tests/serving/test_status.py::test_an_hour_that_comes_twice_is_told_apart",
        ),
    ),
    45: (
        "A killed engine costs an attempt and not a frame; the third one ends in `worker_lost`.",
        (
            "tests/jobs/test_worker.py::test_kill_9_at_any_stage_costs_a_loss_and_not_a_frame",
            "tests/jobs/test_worker.py::test_kill_9_at_every_step_costs_a_loss_and_not_a_frame",
            "tests/jobs/test_worker.py::test_kill_9_as_a_window_is_published_keeps_the_windows_before",
            "tests/jobs/test_queue.py::test_a_job_that_kills_every_engine_fails_and_says_so_in_the_log",
            "tests/jobs/test_supervisor.py::test_a_poison_job_fails_and_the_next_one_succeeds",
        ),
    ),
    46: (
        "With its server an engine ends too; after the restart every job is where it was.",
        (
            "tests/end_to_end/test_survival.py::test_every_accepted_job_is_done_once_and_as_if_nothing_had_been",
            "tests/jobs/test_supervisor.py::test_when_its_supervisor_is_killed_an_engine_ends_and_another_takes_over",
            "tests/jobs/test_worker.py::test_a_lost_parent_hands_the_job_back",
            "tests/jobs/test_worker.py::test_an_engine_whose_parent_is_gone_ends_although_its_pipe_is_open",
            "tests/serving/test_backend.py::test_everything_is_there_again_after_a_restart",
        ),
    ),
    47: (
        "SIGTERM and SIGINT: not ready at once, nothing new leased, the job handed back, exit 0.",
        (
            "tests/serving/test_signals.py::test_the_server_drains_before_its_own_handler_stops_it",
            "tests/serving/test_backend.py::test_a_draining_service_is_not_ready_and_takes_nothing",
            "tests/serving/test_protocol.py::test_a_direct_call_is_told_at_once_that_the_server_stops",
            "tests/jobs/test_worker.py::test_sigterm_hands_the_job_back_and_the_next_engine_goes_on_with_it",
            "tests/jobs/test_worker.py::test_a_step_that_takes_too_long_is_cut_off_and_the_job_handed_back",
            "tests/jobs/test_worker.py::test_an_idle_engine_stops_at_once",
        ),
    ),
    48: (
        "An input that is run again after its end changes nothing.",
        (
            "tests/jobs/test_rows.py::test_a_job_that_is_run_again_after_its_end_keeps_it",
            "tests/jobs/test_execute.py::test_a_result_that_comes_too_late_changes_nothing",
            "tests/jobs/contract.py::JobStoreContract::test_a_record_is_replaced_only_where_it_still_is",
        ),
    ),
}


def test_every_row_is_there() -> None:
    assert list(ROWS) == list(range(1, 49))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_demand_and_tests_that_exist(row: int) -> None:
    demand, tests = ROWS[row]
    assert demand.endswith(".") and tests
    assert len(set(tests)) == len(tests)
    for test in tests:
        path, _, name = test.partition("::")
        assert name in functions(path), test


def test_a_name_that_is_no_function_would_be_noticed() -> None:
    known = functions("tests/jobs/contract.py")
    assert "JobStoreContract::test_no_text_breaks_the_store" in known
    assert "test_no_text_breaks_the_store" not in known
    assert "NASTY" not in known


@cache
def functions(path: str) -> frozenset[str]:
    """Test functions of a module, and methods of its classes as `Class::method`."""
    tree = ast.parse((TESTS.parent / path).read_text("utf-8"))
    found = {node.name for node in tree.body if _is_test(node)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):  # of a contract, or rules of a state machine
            found |= {f"{node.name}::{item.name}" for item in node.body if _is_function(item)}
    return frozenset(found)


def _is_test(node: ast.stmt) -> bool:
    return _is_function(node) and node.name.startswith("test_")


def _is_function(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
