"""Names of clips, and what yt-dlp's messages mean; fetching is tested in test_audioset.py."""

import pytest

from local.prep.youtube.client import ClipCut, parse_clip_name
from local.prep.youtube.errors import ClipError, Failure, classify_error, shorten_message


@pytest.mark.parametrize(
    ("name", "video", "start_s", "end_s"),
    [
        ("Y00pbt6aJV8Y_350.000_360.000.wav", "00pbt6aJV8Y", 350.0, 360.0),
        ("Y-BJNMHMZDcU_50.000_60.000.wav", "-BJNMHMZDcU", 50.0, 60.0),
        ("Y__p-iA312kg_0.000_7.512.wav", "__p-iA312kg", 0.0, 7.512),
        ("Y_________-__12.345_13.000.wav", "_________-_", 12.345, 13.0),
    ],
)
def test_names_are_taken_apart(name, video, start_s, end_s):
    assert parse_clip_name(name) == ClipCut(name, video, start_s, end_s)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "dev_001.wav",
        "Y00pbt6aJV8Y_350.000_360.000",
        "Y00pbt6aJV8Y_350.000_360.000.wav\n",
        "Y00pbt6aJV8Y_350_360.wav",
        "Y00pbt6aJV8_350.000_360.000.wav",
        "Y00pbt6aJV8Y_360.000_350.000.wav",
        "Y00pbt6aJV8Y_350.000_350.000.wav",
        "Y00pbt6aJV8Y_-5.000_5.000.wav",
        "Y../../../aa_0.000_10.000.wav",
        "a/Y00pbt6aJV8Y_350.000_360.000.wav",
        "Yéépbt6aJV8Y_350.000_360.000.wav",
        "Y00pbt6aJV8Y_٣٥٠.000_360.000.wav",
    ],
)
def test_other_names_are_none_of_youtube(name):
    assert parse_clip_name(name) is None


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Failure.GONE, "Video unavailable"),
        (Failure.GONE, "Video unavailable. This video is private"),
        (Failure.GONE, "Private video. Sign in if you've been granted access to this video"),
        (Failure.GONE, "This video has been removed by the uploader"),
        (Failure.GONE, "This video has been removed for violating YouTube's policy on hate "
         "speech."),
        (Failure.GONE, "Video unavailable. This video is no longer available because the YouTube "
         "account associated with this video has been terminated."),
        (Failure.GONE, "Video unavailable. The uploader has not made this video available in your "
         "country"),
        (Failure.GONE, "Join this channel to get access to members-only content like this video"),
        (Failure.GONE, "Video unavailable. This content isn’t available."),
        (Failure.SIGN_IN, "Sign in to confirm your age. This video may be inappropriate for some "
         "users. Use --cookies-from-browser or --cookies for the authentication."),
        (Failure.SIGN_IN, "This video is only available for registered users"),
        (Failure.LIMIT, "Sign in to confirm you’re not a bot. Use --cookies-from-browser"),
        (Failure.LIMIT, "Sign in to confirm you're not a bot"),
        (Failure.LIMIT, "Video unavailable. This content isn't available, try again later. The "
         "current session has been rate-limited by YouTube for up to an hour."),
        (Failure.LIMIT, "Unable to download webpage: HTTP Error 429: Too Many Requests (caused by "
         "<HTTPError 429: Too Many Requests>)"),
        (Failure.PASSING, "Unable to download API page: HTTP Error 503: Service Unavailable"),
        (Failure.PASSING, "Unable to download webpage: Failed to resolve 'www.youtube.com' ([Errno "
         "-3] Temporary failure in name resolution)"),
        (Failure.PASSING, "Unable to download webpage: [Errno 104] Connection reset by peer"),
        (Failure.PASSING, "Unable to download API page: The read operation timed out"),
        (Failure.PASSING, "Unable to download webpage: [Errno 101] Network is unreachable"),
        (Failure.PASSING, "An error occurred. Please try again later."),
        (Failure.OTHER, "Requested format is not available. Use --list-formats for a list"),
        (Failure.OTHER, "The following content is not available on this app. Watch on the latest "
         "version of YouTube."),
        (Failure.OTHER, "Signature extraction failed: Some formats may be missing"),
        (Failure.OTHER, "Unable to download webpage: HTTP Error 404: Not Found"),
    ],
)  # fmt: skip
def test_messages_have_meanings(kind, message):
    assert classify_error(message) is kind


def test_messages_are_tidied():
    message = "ERROR: [youtube] DRM429_SSL-: All wrong;\tsee  https://a.b/c?signature=d for more"
    assert shorten_message(message) == "All wrong; see ... for more"
    assert classify_error(shorten_message(message)) is Failure.OTHER
    assert shorten_message("") == "no reason given"
    assert len(str(ClipError(Failure.OTHER, 1000 * "long "))) == 160
