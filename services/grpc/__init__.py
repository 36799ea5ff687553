"""The gRPC API: the same meaning as REST, by way of services/api; proto/ holds its definition, generated/ the code."""
