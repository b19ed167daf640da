"""`recall` finds words of any script, also where a word runs on into the next or into its particles."""

from __future__ import annotations

import pytest

from harness.events import MessageAdded
from harness.journal.writer import Journal
from harness.memory.index import Index
from harness.messages import user


@pytest.mark.parametrize(
    ("said", "query"),
    [
        ("데이터베이스에 연결하지 못했습니다", "데이터베이스"),
        ("서버의 포트는 사천칠백입니다", "포트"),
        ("データベースの接続に失敗しました", "接続"),
        ("端口五四三二被占用", "占用"),
        ("ข้อผิดพลาดในการเชื่อมต่อ", "เชื่อมต่อ"),
        ("शून्य से विभाजन त्रुटि", "विभाजन"),
        ("порт 4711 занят процессом", "ПОРТ занят"),
        ("خطأ في الاتصال بقاعدة البيانات", "الاتصال"),
        ("le café était fermé", "cafe"),
        ("cafe\u0301 ferme\u0301", "café"),
    ],
)
async def test_a_word_is_found_in_its_own_script(tmp_path, said, query):
    journal = Journal.create(tmp_path / "s")
    await journal.append_many([MessageAdded(message=user(text)) for text in ("nothing", said, "else")])
    journal.close()
    assert [page.id for page in Index(tmp_path / "s").search(query, 3)] == ["p2"]
