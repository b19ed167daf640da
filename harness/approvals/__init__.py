"""Approvals: questions to the user about effects that would leave what the policy gave, and their answers."""
